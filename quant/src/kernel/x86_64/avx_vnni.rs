//! AVX2 with the VEX-encoded `vpdpbusd` (CPUs that have VNNI but no AVX-512).

use super::ymm::Ymm;
use crate::kernel::isa::{Isa, Line};
use core::arch::x86_64::{__m256i, _mm256_dpbusd_avx_epi32};

instruction_set! {
    /// AVX2, FMA and AVX-VNNI.
    AvxVnni: "avx2", "fma", "avxvnni"
}

// SAFETY: the list above has AVX2 and FMA.
unsafe impl Ymm for AvxVnni {}

impl AvxVnni {
    #[inline(always)]
    fn dot(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, a, b) }
    }
}

impl Isa for AvxVnni {
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

    const UNPACKS: bool = true;

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
