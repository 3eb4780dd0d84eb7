//! What the code that `#[derive(Module)]` writes calls. No part of the public interface.

use crate::QuantizationScheme;

/// The scheme of `#[module(scheme = "…")]`, or a compile error on the string.
#[track_caller]
pub const fn scheme(name: &str) -> QuantizationScheme {
    match QuantizationScheme::from_name(name) {
        Some(scheme) => scheme,
        None => panic!("{}", crate::scheme::REFUSAL),
    }
}
