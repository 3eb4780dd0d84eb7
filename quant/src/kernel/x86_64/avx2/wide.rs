//! 8-bit codes of any kind.
//!
//! `vpmaddwd` sums pairs of products of i16 in i32. Nothing can overflow, whatever the values, but it
//! does half as many products as `vpmaddubsw`. So activations are added to codes first, which halves
//! the number of products ([`Isa::CROSSES`]): three additions, which any of four pipes does, and one
//! multiplication, which two do, instead of two of each. Sums of bytes fit i16, and i32 wraps to what
//! the difference with the parts that are subtracted fits again.
//!
//! Measured on one core of a Zen 4, GOP/s at 512³ of the loop alone: 187 with products, 212 with
//! products of sums, and 193 if codes are widened as they are loaded, as they are here, so that they
//! take no more memory than elsewhere.

use super::Avx2;
use crate::kernel::isa::{Isa, Line};
use crate::kernel::x86_64::ymm::Ymm;
use core::arch::x86_64::{__m256i, _mm_loadu_si128, _mm256_cvtepi8_epi16, _mm256_srai_epi32};

/// AVX2 with products of i16: a step is two values of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Avx2Wide(pub(super) Avx2);

// SAFETY: a value holds one of `Avx2`, which proves AVX2 and FMA.
unsafe impl Ymm for Avx2Wide {}

impl Avx2Wide {
    /// The low half of each lane, by a multiplication that drops the high half: two shifts would do
    /// the same.
    #[inline(always)]
    fn low(self, lanes: __m256i) -> __m256i {
        self.0.wide_pairs(lanes, self.ymm_splat_sum(1))
    }

    #[inline(always)]
    fn high(self, lanes: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_srai_epi32::<16>(lanes) }
    }

    /// 16 codes as i16.
    #[inline(always)]
    fn widen(self, from: &[i8; 16]) -> __m256i {
        // SAFETY: AVX2 implies SSE2; the reference is to the 16 bytes that are read.
        let codes = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepi8_epi16(codes) }
    }
}

impl Isa for Avx2Wide {
    ymm_isa!();

    type Step = [[i8; 16]; 2];

    const VALUES: usize = 2;
    // 4 rows · 2 vectors = 8 sums, 4 vectors of codes, 2 broadcasts, 2 temporaries: 16 registers.
    const ROWS: usize = 4;
    const GROUP: usize = 2;
    const BASES: bool = true;
    const CROSSES: bool = true;

    #[inline(always)]
    fn lanes(self, step: &Self::Step, v: usize) -> __m256i {
        self.widen(&step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Sums) -> Self::Floats {
        // Each lane holds two codes as i16.
        let code = if J == 0 { self.low(lanes) } else { self.high(lanes) };
        self.ymm_to_floats(code)
    }

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        b: &[Self::Step],
    ) {
        for (s, [first, second]) in b.as_chunks().0.iter().enumerate().take(Line::STEPS / 2) {
            let first = [self.widen(&first[0]), self.widen(&first[1])];
            let second = [self.widen(&second[0]), self.widen(&second[1])];
            for r in 0..R {
                let values =
                    [self.ymm_broadcast(a[r].0[2 * s]), self.ymm_broadcast(a[r].0[2 * s + 1])];
                for v in 0..2 {
                    let a = self.0.add_i16(values[0], second[v]);
                    let b = self.0.add_i16(values[1], first[v]);
                    sums[r][v] = self.ymm_add_sums(sums[r][v], self.0.wide_pairs(a, b));
                }
            }
        }
    }
}
