//! AVX-512 with VNNI.

use crate::kernel::dispatch::Isa;

instruction_set! {
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni: "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"
}

impl Isa for Avx512Vnni {}
