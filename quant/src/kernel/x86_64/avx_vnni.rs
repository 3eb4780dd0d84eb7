//! AVX2 with VNNI on 256-bit vectors.
//!
//! `vpdpbusd` has two encodings: VEX, of CPUs that have VNNI but no AVX-512, and EVEX, of CPUs that
//! have AVX-512. Few CPUs have both. Those with the second one have a faster kernel; with the feature
//! `evex` they have this one too, so that it is tested wherever there is VNNI.

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
pub(super) trait Vnni: Ymm + Send + Sync {
    /// Adds four products of an unsigned byte of `a` and a signed byte of `b` to each sum.
    fn dot(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i;
}

impl Vnni for Vex {
    #[inline(always)]
    fn dot(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, a, b) }
    }
}

#[cfg(feature = "evex")]
impl Vnni for Evex {
    #[inline(always)]
    fn dot(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-512 VL and VNNI.
        unsafe { _mm256_dpbusd_epi32(sums, a, b) }
    }
}

impl<V: Vnni> Isa for V {
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
        for (s, step) in b.iter().enumerate().take(Line::STEPS) {
            let codes = [self.ymm_codes(&step[0]), self.ymm_codes(&step[1])];
            for r in 0..R {
                let values = self.ymm_broadcast(a[r].0[s]);
                sums[r][0] = self.dot(sums[r][0], values, codes[0]);
                sums[r][1] = self.dot(sums[r][1], values, codes[1]);
            }
        }
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
        for (s, step) in b.iter().enumerate().take(Line::STEPS / 2) {
            let codes = [self.ymm_unpacked(&step[0]), self.ymm_unpacked(&step[1])];
            for r in 0..R {
                let first = self.ymm_broadcast(a[r].0[2 * s]);
                let second = self.ymm_broadcast(a[r].0[2 * s + 1]);
                for v in 0..2 {
                    sums[r][v] = self.dot(sums[r][v], first, codes[v][0]);
                    sums[r][v] = self.dot(sums[r][v], second, codes[v][1]);
                }
            }
        }
    }
}
