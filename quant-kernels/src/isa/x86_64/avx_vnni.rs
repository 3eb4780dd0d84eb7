//! AVX2 with VNNI on 256-bit vectors.
//!
//! `vpdpbusd` has two encodings: VEX (AVX-VNNI) and EVEX (AVX-512 VNNI). CPUs with AVX-512 have a faster kernel;
//! with the feature `_evex`, CPUs that have only the second encoding support this kernel, too, so that it is
//! tested wherever there is VNNI.

use super::Avx2;
use super::vnni::{self, Vnni};
use super::ymm::Ymm;
use crate::isa::Operation;
use crate::isa::{Isa, Line};
#[cfg(feature = "_evex")]
use core::arch::x86_64::_mm256_dpbusd_epi32;
use core::arch::x86_64::{__m256i, _mm256_dpbusd_avx_epi32};

instruction_set! {
    /// AVX2, FMA, F16C and AVX-VNNI.
    Vex: "avx2", "fma", "f16c", "avxvnni"
}

#[cfg(feature = "_evex")]
instruction_set! {
    /// AVX2, FMA, F16C, and the part of AVX-512 that corresponds to AVX-VNNI.
    Evex: "avx2", "fma", "f16c", "avx512vl", "avx512vnni"
}

/// Either encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AvxVnni {
    Vex(Vex),
    #[cfg(feature = "_evex")]
    Evex(Evex),
}

impl AvxVnni {
    /// A value, if this CPU supports the instruction set.
    pub(crate) fn new() -> Option<Self> {
        let proof = Vex::new().map(Self::Vex);
        #[cfg(feature = "_evex")]
        let proof = proof.or_else(|| Evex::new().map(Self::Evex));
        proof
    }

    /// AVX2 alone, for operations without integer products: panels have the same layout, so the code is shared.
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

// SAFETY: the first list above has AVX2, FMA and F16C.
unsafe impl Ymm for Vex {}
// SAFETY: so has the second.
#[cfg(feature = "_evex")]
unsafe impl Ymm for Evex {}

/// The instruction in either encoding.
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
        self.ymm_halves(&step[v])
    }
}

impl<D: Dot> Isa for D {
    ymm_isa!();

    type KStep = [[i8; 32]; 2];

    const KR: usize = 4;
    // 6 rows · 2 vectors = 12 accumulators, 2 vectors of codes and a broadcast: 15 of 16 registers.
    const MR: usize = 6;
    const GEMV_ROWS: usize = 4;
    const GROUP: usize = 2;
    const UNSIGNED_BITS: &'static [usize] = &[4];

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
        first: usize,
        b: &[Self::KStep],
    ) {
        vnni::accumulate(self, sums, a, first, b);
    }

    // Products use two of the four pipes of a Zen 4, and unpacking the others.
    const UNPACK_ABOVE: usize = usize::MAX;

    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep],
    ) {
        vnni::accumulate_packed(self, sums, a, first, b);
    }

    const KEY_OFFSET: i32 = 128;

    #[inline(always)]
    fn dot_signed(self, sums: __m256i, q: __m256i, k: __m256i) -> __m256i {
        self.dot(sums, self.ymm_flip(k, vnni::SIGNS), q)
    }

    #[inline(always)]
    fn split_nibbles(self, packed: __m256i) -> [__m256i; 2] {
        let mask = self.ymm_splat_int(vnni::LOW);
        [self.ymm_and(packed, mask), self.ymm_and(self.ymm_shift_down::<4>(packed), mask)]
    }

    #[inline(always)]
    fn dot_unsigned(self, sums: __m256i, q: __m256i, u: __m256i) -> __m256i {
        self.dot(sums, u, q)
    }
}
