//! Codes of at most 4 bits: `vpmaddubsw` with unsigned codes and signed activations.

use super::Avx2;
use crate::kernel::isa::{Isa, Line};
use crate::kernel::x86_64::ymm::Ymm;
use core::arch::asm;
use core::arch::x86_64::__m256i;

impl Isa for Avx2 {
    ymm_isa!();

    type Step = [[i8; 32]; 2];

    const VALUES: usize = 4;
    // 4 rows · 2 vectors = 8 sums in i16, 4 vectors of codes, a broadcast, a temporary, a mask: 15 of
    // 16 registers. The sums in i32 are needed once in eight steps and may wait in memory.
    const ROWS: usize = 4;
    const UNSIGNED_CODES: bool = true;

    #[inline(always)]
    fn lanes(self, step: &Self::Step, v: usize) -> __m256i {
        self.ymm_codes(&step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Sums) -> Self::Floats {
        self.ymm_byte::<J>(lanes)
    }

    /// Eight pair sums are added in i16 before they are widened, which saves the two operations of
    /// widening for all but one of them. Codes are at most 15, activations at least -128: eight steps
    /// reach at most 8 · 2 · 15 · 128 = 30720.
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
                // In an order of the compiler's, which here is one in a hundred faster.
                self.add_pairs::<R, false>(&mut pairs, a, g * 8 + s, codes);
            }
            self.add_wide(sums, &pairs);
        }
    }

    // Unpacking takes as long as half of the products of one row, and a panel that is unpacked needs
    // twice the room in the cache: with up to eight tiles it does not pay to do it once for all.
    const UNPACKS: usize = 32;

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
                let [left, right] = [self.ymm_halves(&step[0]), self.ymm_halves(&step[1])];
                let (low, high) = ([left[0], right[0]], [left[1], right[1]]);
                self.add_pairs::<R, true>(&mut pairs, a, g * 8 + 2 * s, low);
                self.add_pairs::<R, true>(&mut pairs, a, g * 8 + 2 * s + 1, high);
            }
            self.add_wide(sums, &pairs);
        }
    }
}

impl Avx2 {
    /// Adds a step of every row, in i16; the first of eight has nothing to be added to.
    #[inline(always)]
    fn add_pairs<const R: usize, const AS_WRITTEN: bool>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        step: usize,
        codes: [__m256i; 2],
    ) {
        for r in 0..R {
            let values = self.ymm_broadcast(a[r].0[step]);
            for v in 0..2 {
                let pair = self.pairs(codes[v], values);
                sums[r][v] = if step.is_multiple_of(8) {
                    pair
                } else if AS_WRITTEN {
                    self.add_as_written(sums[r][v], pair)
                } else {
                    self.add_i16(sums[r][v], pair)
                };
            }
        }
    }

    /// [`Avx2::add_i16`], in the order in which it is written. The compiler (of Rust 1.95) would add
    /// neighbours first, as in a tree, for which there are not registers enough beside codes that are
    /// unpacked: 256 GOP/s for four rows instead of 284.
    #[inline(always)]
    fn add_as_written(self, a: __m256i, b: __m256i) -> __m256i {
        // Vectors can be operands only where the function itself enables the instruction set.
        #[target_feature(enable = "avx2")]
        #[inline]
        fn enabled(mut a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: the instruction is one of AVX2, which is enabled here. It reads two registers and
            // writes one of them: no memory, no stack, no flags; its result depends on them alone.
            unsafe {
                asm!(
                    "vpaddw {a}, {a}, {b}",
                    a = inout(ymm_reg) a,
                    b = in(ymm_reg) b,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            a
        }
        // SAFETY: `self` proves AVX2.
        unsafe { enabled(a, b) }
    }
}
