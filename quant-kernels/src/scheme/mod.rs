//! What the numbers mean: code types, granularity, scales and zero points, rounding, packing.
//!
//! Everything here follows `docs/numerics.md`, rules 1 to 5, and knows nothing of tensors,
//! modules or files.

mod activation;
mod bf16;
mod f16;
mod grid;
mod groups;
mod key_values;
mod name;
mod name_error;
pub mod packing;
mod quantization;
mod range;
mod types;

pub use activation::{
    ActivationMapping, ActivationScheme, DynamicGranularity, DynamicQuantization,
};
pub use bf16::{bf16_to_f32, f32_to_bf16};
pub use f16::{f16_to_f32, f32_to_f16};
pub use grid::{Grid, fit};
pub use groups::{Group, Groups, LayoutError};
pub use key_values::KeyValueScheme;
pub use name_error::NameError;
pub use quantization::{CodeRange, MinimumParams, QuantParams, Quantization, ScaleError};
pub use range::{NonFinite, Range};
pub use types::{
    Axis, Block, Granularity, Mapping, QuantizationScheme, QuantizationType, ScaleType,
};

pub(crate) use grid::{ROUNDING, rounded_code};

// For `quant`; not part of the public interface.
#[doc(hidden)]
pub use grid::round_code;
#[doc(hidden)]
pub use groups::element_count;
#[doc(hidden)]
pub use name::REFUSAL;
