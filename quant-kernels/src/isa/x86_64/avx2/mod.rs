//! AVX2, FMA and F16C, which nearly every x86-64 CPU of the last ten years has.
//!
//! No instruction of AVX2 sums products of bytes in i32, so there are three exact methods:
//!
//! - [`Avx2Permuted`](permuted::Avx2Permuted), for 8-bit codes like those of real weights: `vpmaddubsw`, with K in
//!   a [`permutation`](crate::pack::permutation) in which four products can be summed in i16.
//! - [`Avx2Wide`](wide::Avx2Wide), for any 8-bit codes: `vpmaddwd` on sums of activations and codes, with half of
//!   the multiplications.
//! - [`Avx2`], for codes of at most 4 bits: `vpmaddubsw` sums pairs of products in i16, and eight such sums fit
//!   i16 together before they are widened.

mod permuted;
mod sub_byte;
mod wide;

use self::wide::Code;
use super::ymm::Ymm;
use crate::isa::Line;
use crate::isa::Operation;
use core::arch::x86_64::{
    __m256i, _mm256_add_epi16, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16,
};

instruction_set! {
    /// AVX2, FMA and F16C, for codes of at most 4 bits.
    Avx2: "avx2", "fma", "f16c"
}

// SAFETY: the list above has AVX2, FMA and F16C.
unsafe impl Ymm for Avx2 {}

/// K-steps that are written together in assembly: half a line.
const STEPS: usize = Line::STEPS / 2;

/// The k-steps of one half of a line: 32 bytes of the first row. Those of the other rows follow, 64 bytes apart.
#[inline(always)]
fn half_line(a: &[Line; 4], half: usize) -> *const [u32; STEPS] {
    assert!(half < Line::STEPS / STEPS, "a line has two halves");
    a.as_ptr().cast::<[u32; STEPS]>().wrapping_add(half)
}

impl Avx2 {
    /// From a value that proves AVX2, FMA and F16C.
    pub(in crate::isa::x86_64) fn from_proof(_: impl Ymm) -> Self {
        Self(())
    }

    /// [`Avx2::run`] with products of i16. Codes are `i8` as stored, or widened to `i16`.
    #[inline]
    pub(crate) fn run_wide<C: Code, O: Operation>(self, operation: O) -> O::Output {
        #[target_feature(enable = "avx2", enable = "fma", enable = "f16c")]
        fn enabled<C: Code, O: Operation>(isa: wide::Avx2Wide<C>, operation: O) -> O::Output {
            operation.run(isa)
        }
        // SAFETY: `enabled` needs AVX2, FMA and F16C, which `self` proves.
        unsafe { enabled(wide::Avx2Wide::<C>::new(self), operation) }
    }

    /// [`Avx2::run`] with permuted codes.
    #[inline]
    pub(crate) fn run_permuted<O: Operation>(self, operation: O) -> O::Output {
        #[target_feature(enable = "avx2", enable = "fma", enable = "f16c")]
        fn enabled<O: Operation>(isa: permuted::Avx2Permuted, operation: O) -> O::Output {
            operation.run(isa)
        }
        // SAFETY: `enabled` needs AVX2, FMA and F16C, which `self` proves.
        unsafe { enabled(permuted::Avx2Permuted(self), operation) }
    }

    /// Sums of pairs of products of unsigned and signed bytes, in i16.
    #[inline(always)]
    fn pairs(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_maddubs_epi16(a, b) }
    }

    #[inline(always)]
    fn add_i16(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi16(a, b) }
    }

    #[inline(always)]
    fn ones(self) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_epi16(1) }
    }

    /// Sums of pairs of products of i16, in i32.
    #[inline(always)]
    fn wide_pairs(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_madd_epi16(a, b) }
    }

    /// Adds the pairs of i16 sums to i32 accumulators.
    #[inline(always)]
    fn add_wide<const R: usize>(self, sums: &mut [[__m256i; 2]; R], pairs: &[[__m256i; 2]; R]) {
        for r in 0..R {
            for v in 0..2 {
                let wide = self.wide_pairs(pairs[r][v], self.ones());
                sums[r][v] = self.ymm_add_ints(sums[r][v], wide);
            }
        }
    }
}
