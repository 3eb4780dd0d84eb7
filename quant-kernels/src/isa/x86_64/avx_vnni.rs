//! AVX2 with VNNI on 256-bit vectors.
//!
//! `vpdpbusd` has two encodings: VEX, of AVX-VNNI, and EVEX, of AVX-512 VNNI. CPUs with the second one
//! have a faster kernel; with the feature `_evex` those without the first have this one too, so that it
//! is tested wherever there is VNNI.

use super::Avx2;
use super::vnni::{self, Vnni};
use super::ymm::Ymm;
use crate::isa::Operation;
use crate::isa::{Isa, Line};
#[cfg(feature = "_evex")]
use core::arch::x86_64::_mm256_dpbusd_epi32;
use core::arch::x86_64::{__m256i, _mm256_dpbusd_avx_epi32};

instruction_set! {
    /// AVX2, FMA and AVX-VNNI.
    Vex: "avx2", "fma", "avxvnni"
}

#[cfg(feature = "_evex")]
instruction_set! {
    /// AVX2, FMA, and of AVX-512 what AVX-VNNI has.
    Evex: "avx2", "fma", "avx512vl", "avx512vnni"
}

/// Either encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AvxVnni {
    Vex(Vex),
    #[cfg(feature = "_evex")]
    Evex(Evex),
}

impl AvxVnni {
    /// The proof, if this CPU can give one.
    pub(crate) fn new() -> Option<Self> {
        let proof = Vex::new().map(Self::Vex);
        #[cfg(feature = "_evex")]
        let proof = proof.or_else(|| Evex::new().map(Self::Evex));
        proof
    }

    /// The instruction set without VNNI, for operations that do not multiply integers: they share its
    /// code, which has the same panels.
    pub(crate) fn avx2(self) -> Avx2 {
        match self {
            Self::Vex(isa) => Avx2::from_proof(isa),
            #[cfg(feature = "_evex")]
            Self::Evex(isa) => Avx2::from_proof(isa),
        }
    }

    /// Runs an operation compiled for this instruction set.
    #[inline]
    pub(crate) fn run<O: Operation>(self, operation: O) -> O::Output {
        match self {
            Self::Vex(isa) => isa.run(operation),
            #[cfg(feature = "_evex")]
            Self::Evex(isa) => isa.run(operation),
        }
    }
}

// SAFETY: the first list above has AVX2 and FMA.
unsafe impl Ymm for Vex {}
// SAFETY: so has the second.
#[cfg(feature = "_evex")]
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

#[cfg(feature = "_evex")]
impl Dot for Evex {
    #[inline(always)]
    fn vpdpbusd(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-512 VL and VNNI.
        unsafe { _mm256_dpbusd_epi32(sums, a, b) }
    }
}

impl<D: Dot> Vnni for D {
    #[inline(always)]
    fn dot(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        self.vpdpbusd(sums, a, b)
    }

    #[inline(always)]
    fn unpacked(self, step: &Self::KStep, v: usize) -> [__m256i; 2] {
        let [low, high] = self.ymm_halves(&step[v]);
        [self.ymm_less_half(low), self.ymm_less_half(high)]
    }
}

impl<D: Dot> Isa for D {
    ymm_isa!();

    type KStep = [[i8; 32]; 2];

    const KR: usize = 4;
    // 6 rows · 2 vectors = 12 sums, 2 vectors of codes and a broadcast: 15 of 16 registers.
    const MR: usize = 6;
    const GEMV_ROWS: usize = 4;
    const GROUP: usize = 2;

    #[inline(always)]
    fn lanes(self, step: &Self::KStep, v: usize) -> __m256i {
        self.ymm_codes(&step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Ints) -> Self::Floats {
        self.ymm_byte::<J>(lanes)
    }

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        b: &[Self::KStep],
    ) {
        vnni::accumulate(self, sums, a, b);
    }

    // The products need two of a Zen 4's pipes, and the others have time to unpack. With so many rows
    // as this it is no faster any more. Measured in the encoding of AVX-512, which has 32 registers.
    const UNPACK_ABOVE: usize = 256;

    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        b: &[Self::KStep],
    ) {
        vnni::accumulate_packed(self, sums, a, b);
    }
}
