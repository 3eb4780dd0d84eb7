//! The instruction set of wasm32, for which this code is not compiled.

use crate::isa::Operation;

absent!(Simd128);

impl Simd128 {
    /// Cannot be called.
    pub(crate) fn run_wide<O: Operation>(self, _: O) -> O::Output {
        match self.0 {}
    }
}
