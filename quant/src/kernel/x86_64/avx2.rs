//! AVX2, found in every x86-64 CPU of the last ten years.

use crate::kernel::dispatch::Isa;

instruction_set! {
    /// AVX2 without any dot product instruction.
    Avx2: "avx2"
}

impl Isa for Avx2 {}
