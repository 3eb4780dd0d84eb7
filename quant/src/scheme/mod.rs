//! What the numbers mean: code types, granularity, scales and zero points, rounding, packing.
//!
//! Everything here follows `docs/numerics.md`, rules 1 to 5, and knows nothing of tensors,
//! modules or files.

mod f16;
mod grid;
mod groups;
mod name;
pub mod packing;
mod range;
mod types;

pub use f16::{f16_to_f32, f32_to_f16};
pub use grid::{Grid, QuantParams, ScaleError, fit};
pub(crate) use grid::{ROUNDING, round_code, rounded_code};
pub(crate) use groups::element_count;
pub use groups::{Group, Groups, LayoutError};
pub(crate) use name::REFUSAL;
pub use name::SchemeNameError;
pub use range::{NonFinite, Range};
pub use types::{
    Axis, Block, Granularity, Mapping, QuantizationScheme, QuantizationType, ScaleType,
};
