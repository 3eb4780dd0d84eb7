//! The instruction sets of aarch64.
//!
//! A vector has 128 bits, of which there are 32. The kernels take two of them for a vector of [`Isa`](super::Isa),
//! which then has as many lanes, and as many registers, as with AVX2.
//!
//! This module is compiled only where every CPU has NEON.

/// Whether the CPU has a feature; without `std`, whether it is enabled at compile time.
macro_rules! detected {
    ($feature:tt) => {{
        #[cfg(feature = "std")]
        let detected = std::arch::is_aarch64_feature_detected!($feature);
        #[cfg(not(feature = "std"))]
        let detected = cfg!(target_feature = $feature);
        detected
    }};
}

mod vector;
#[macro_use]
mod methods;
mod dotprod;
mod five_rows;
mod neon;

pub(crate) use dotprod::NeonDotprod;
pub(crate) use neon::Neon;
