//! What `#[derive(Module)]` writes calls of, and what the crates beside this one share with it.
//!
//! Not part of the public interface: any version may change it.

pub use crate::module::parent_of;
#[cfg(feature = "std")]
pub use crate::quantize::hooks::*;
#[cfg(feature = "std")]
pub use crate::record::hooks::*;
use crate::scheme::QuantizationScheme;
pub use crate::scheme::element_count;
#[cfg(feature = "std")]
pub use crate::table::line;
pub use crate::tensor::check_len;
#[cfg(feature = "std")]
pub use crate::tensor::{common_grain, grain, part_shape};

/// The scheme of `#[module(scheme = "…")]`, or a compile error on the string.
#[track_caller]
pub const fn scheme(name: &str) -> QuantizationScheme {
    match QuantizationScheme::from_name(name) {
        Some(scheme) => scheme,
        None => panic!("{}", crate::scheme::REFUSAL),
    }
}
