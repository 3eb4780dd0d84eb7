//! AVX2 with the VEX-encoded `vpdpbusd` (CPUs that have VNNI but no AVX-512).

use crate::kernel::dispatch::Isa;

instruction_set! {
    /// AVX2 and AVX-VNNI.
    AvxVnni: "avx2", "avxvnni"
}

impl Isa for AvxVnni {}
