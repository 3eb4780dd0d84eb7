//! Codes of at most 4 bits.

use super::Avx2;
use crate::kernel::isa::{Isa, Line};
use crate::kernel::x86_64::ymm::Ymm;
use core::arch::x86_64::__m256i;

impl Isa for Avx2 {
    ymm_isa!();

    type Step = [[i8; 32]; 2];

    const VALUES: usize = 4;
    // 4 rows · 2 vectors = 8 sums in i16, 2 vectors of codes, a broadcast, a temporary: 12 of 16
    // registers. The sums in i32 are needed once in eight steps and may wait in memory.
    const ROWS: usize = 4;

    #[inline(always)]
    fn lanes(self, step: &Self::Step, v: usize) -> __m256i {
        self.ymm_codes(&step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Sums) -> Self::Floats {
        self.ymm_byte::<J>(lanes)
    }

    /// Eight pair sums are added in i16 before they are widened, which saves the two operations of
    /// widening for all but one of them. Codes are at least -8, activations at most 255: eight steps
    /// reach at most 8 · 2 · 8 · 255 = 32640.
    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        b: &[Self::Step],
    ) {
        for (g, steps) in b.as_chunks::<8>().0.iter().enumerate().take(Line::STEPS / 8) {
            let mut pairs = [[self.ymm_zero(); 2]; R];
            for (s, step) in steps.iter().enumerate() {
                let codes = [self.ymm_codes(&step[0]), self.ymm_codes(&step[1])];
                for r in 0..R {
                    let values = self.ymm_broadcast(a[r].0[g * 8 + s]);
                    for v in 0..2 {
                        let pair = self.pairs(values, codes[v]);
                        pairs[r][v] = if s == 0 { pair } else { self.add_i16(pairs[r][v], pair) };
                    }
                }
            }
            self.add_wide(sums, &pairs);
        }
    }

    // Two tiles. Unpacking takes as long as the products of one row.
    const UNPACKS: usize = 8;

    /// As [`Isa::accumulate`]: four packed steps are eight.
    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        b: &[Self::Step],
    ) {
        for (g, steps) in b.as_chunks::<4>().0.iter().enumerate().take(Line::STEPS / 8) {
            let mut pairs = [[self.ymm_zero(); 2]; R];
            for (s, step) in steps.iter().enumerate() {
                let codes = [self.ymm_unpacked(&step[0]), self.ymm_unpacked(&step[1])];
                for r in 0..R {
                    let first = self.ymm_broadcast(a[r].0[g * 8 + 2 * s]);
                    let second = self.ymm_broadcast(a[r].0[g * 8 + 2 * s + 1]);
                    for v in 0..2 {
                        let both = self.add_i16(
                            self.pairs(first, codes[v][0]),
                            self.pairs(second, codes[v][1]),
                        );
                        pairs[r][v] = self.add_i16(pairs[r][v], both);
                    }
                }
            }
            self.add_wide(sums, &pairs);
        }
    }
}
