//! The instruction sets of x86-64, which this machine does not have.

use crate::isa::Operation;

absent!(Avx2);
absent!(AvxVnni);
absent!(Avx512Vnni);

impl Avx2 {
    /// Cannot be called.
    #[allow(clippy::extra_unused_type_parameters)]
    pub(crate) fn run_wide<C, O: Operation>(self, _: O) -> O::Output {
        match self.0 {}
    }

    /// Cannot be called.
    pub(crate) fn run_permuted<O: Operation>(self, _: O) -> O::Output {
        match self.0 {}
    }
}

impl AvxVnni {
    /// Cannot be called.
    pub(crate) fn avx2(self) -> Avx2 {
        match self.0 {}
    }
}
