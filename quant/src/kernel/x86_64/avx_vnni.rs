//! AVX2 with VNNI on 256-bit vectors.
//!
//! `vpdpbusd` has two encodings: VEX, of CPUs that have VNNI but no AVX-512, and EVEX, of CPUs that
//! have AVX-512. Few CPUs have both. Those with the second one have a faster kernel; with the feature
//! `evex` they have this one too, so that it is tested wherever there is VNNI.

use super::vnni::{self, Vnni};
use super::ymm::Ymm;
use crate::kernel::dispatch::Operation;
use crate::kernel::isa::{Isa, Line};
#[cfg(feature = "evex")]
use core::arch::x86_64::_mm256_dpbusd_epi32;
use core::arch::x86_64::{__m256i, _mm256_dpbusd_avx_epi32};

instruction_set! {
    /// AVX2, FMA and AVX-VNNI.
    Vex: "avx2", "fma", "avxvnni"
}

#[cfg(feature = "evex")]
instruction_set! {
    /// AVX2, FMA, and of AVX-512 what AVX-VNNI has.
    Evex: "avx2", "fma", "avx512vl", "avx512vnni"
}

/// Either encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum AvxVnni {
    Vex(Vex),
    #[cfg(feature = "evex")]
    Evex(Evex),
}

impl AvxVnni {
    /// The proof, if this CPU can give one.
    pub(in crate::kernel) fn new() -> Option<Self> {
        let proof = Vex::new().map(Self::Vex);
        #[cfg(feature = "evex")]
        let proof = proof.or_else(|| Evex::new().map(Self::Evex));
        proof
    }

    /// Runs an operation compiled for this instruction set.
    #[inline]
    pub(in crate::kernel) fn run<O: Operation>(self, operation: O) -> O::Output {
        match self {
            Self::Vex(isa) => isa.run(operation),
            #[cfg(feature = "evex")]
            Self::Evex(isa) => isa.run(operation),
        }
    }
}

// SAFETY: the first list above has AVX2 and FMA.
unsafe impl Ymm for Vex {}
// SAFETY: so has the second.
#[cfg(feature = "evex")]
unsafe impl Ymm for Evex {}

/// The instruction of either encoding.
pub(super) trait Dot: Ymm + Send + Sync {
    /// As [`Vnni::dot`].
    fn vpdpbusd(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i;
}

impl Dot for Vex {
    #[inline(always)]
    fn vpdpbusd(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, a, b) }
    }
}

#[cfg(feature = "evex")]
impl Dot for Evex {
    #[inline(always)]
    fn vpdpbusd(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-512 VL and VNNI.
        unsafe { _mm256_dpbusd_epi32(sums, a, b) }
    }
}

impl<D: Dot> Vnni for D {
    type Vector = __m256i;
    type Codes = [i8; 32];

    #[inline(always)]
    fn none(self) -> __m256i {
        self.ymm_zero()
    }

    #[inline(always)]
    fn codes(self, from: &[i8; 32]) -> __m256i {
        self.ymm_codes(from)
    }

    #[inline(always)]
    fn unpacked(self, from: &[i8; 32]) -> [__m256i; 2] {
        self.ymm_unpacked(from)
    }

    #[inline(always)]
    fn broadcast(self, values: u32) -> __m256i {
        self.ymm_broadcast(values)
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        self.vpdpbusd(sums, a, b)
    }

    #[inline(always)]
    fn sum(self, a: __m256i, b: __m256i) -> __m256i {
        self.ymm_add_sums(a, b)
    }
}

impl<D: Dot> Isa for D {
    ymm_isa!();

    type Step = [[i8; 32]; 2];

    const VALUES: usize = 4;
    // 6 rows · 2 vectors = 12 sums, 2 vectors of codes and a broadcast: 15 of 16 registers.
    const ROWS: usize = 6;

    #[inline(always)]
    fn lanes(self, step: &Self::Step, v: usize) -> __m256i {
        self.ymm_codes(&step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Sums) -> Self::Floats {
        self.ymm_byte::<J>(lanes)
    }

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        b: &[Self::Step],
    ) {
        vnni::accumulate(self, sums, a, b);
    }

    // As many as are prepared at a time, nearly always: in a loop that is all `vpdpbusd`, on two pipes,
    // the others have time to unpack.
    const UNPACKS: usize = 256;

    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        b: &[Self::Step],
    ) {
        vnni::accumulate_packed(self, sums, a, b);
    }
}
