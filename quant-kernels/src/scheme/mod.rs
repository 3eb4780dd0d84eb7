//! What the numbers mean: code types, granularity, scales and zero points, rounding, packing.
//!
//! Everything here follows `docs/numerics.md`, rules 1 to 5, and knows nothing of tensors,
//! modules or files.

#[cfg(feature = "alloc")]
mod activation;
mod bf16;
mod f16;
mod grid;
mod groups;
#[cfg(feature = "alloc")]
mod key_values;
#[cfg(feature = "alloc")]
mod name;
#[cfg(feature = "alloc")]
mod name_error;
pub mod packing;
mod quantization;
mod range;
mod types;

#[cfg(feature = "alloc")]
pub use activation::{
    ActivationMapping, ActivationScheme, DynamicGranularity, DynamicQuantization,
};
pub use bf16::{bf16_to_f32, f32_to_bf16};
pub use f16::{f16_to_f32, f32_to_f16};
pub use grid::{Grid, fit};
#[cfg(feature = "alloc")]
pub use groups::LayoutError;
pub use groups::{Group, Groups};
#[cfg(feature = "alloc")]
pub use key_values::KeyValueScheme;
#[cfg(feature = "alloc")]
pub use name_error::NameError;
pub use quantization::{CodeRange, MinimumParams, QuantParams, Quantization, ScaleError};
pub use range::{NonFinite, Range};
pub use types::{
    Axis, Block, Granularity, Mapping, QuantizationScheme, QuantizationType, ScaleType,
};

#[cfg(feature = "alloc")]
pub(crate) use grid::{ROUNDING, rounded_code};

// For `quant`; not part of the public interface.
#[doc(hidden)]
pub use grid::round_code;
#[doc(hidden)]
pub use groups::element_count;
#[cfg(feature = "alloc")]
#[doc(hidden)]
pub use name::REFUSAL;
