//! AVX2, found in every x86-64 CPU of the last ten years.
//!
//! It has no instruction that sums products of bytes in i32, so there are three ways to be exact:
//!
//! - [`Avx2Wide`], for any codes: activations and codes are widened to i16 and `vpmaddwd` sums pairs
//!   of products in i32. Nothing can overflow, whatever the values. Codes are widened as they are
//!   loaded, once for all rows of a tile, so weights take no more memory than elsewhere.
//! - [`Avx2Ordered`], for 8-bit codes that can be paired so that two products fit i16:
//!   `vpmaddubsw`, with K in an order of its own (see [`order`](crate::kernel::order)), and apart from
//!   it what fits nowhere (see [`remainders`](crate::kernel::remainders)).
//! - [`Avx2`], for codes of at most 4 bits: `vpmaddubsw` sums pairs of products of bytes in i16, and
//!   eight such sums fit i16 together before they have to be widened.
//!
//! Measured on one core of a Zen 4, normally distributed weights, GOP/s of the first beside the
//! second: 150 and 191 at 512³, 158 and 204 at 8×768×3072. The second multiplies twice for 32
//! products, which that core does 236 times, and its loop alone does 234; what is left is bringing
//! activations into their order, quantizing them, and the floats at the end.
//!
//! Two other ways were tried and left. Adding two pair sums in i16 saves a multiplication in four,
//! but wants four codes that sum to the limit in all columns: in weights of a trained encoder, blocks
//! that have such an order are 1 to 40 % in layers of 384 inputs and 80 to 95 % in those of 1536.
//! With half of a block in fours, which nearly all have, the loop does 249 if written in assembly,
//! and no more than 234 as compiled. `vpsignb`, which fits with any weights, is no faster than the
//! first.

use super::ymm::Ymm;
use crate::kernel::dispatch::Operation;
use crate::kernel::isa::{Isa, Line};
use core::arch::x86_64::{
    __m256i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_add_epi16, _mm256_cvtepi8_epi16,
    _mm256_cvtepi8_epi32, _mm256_cvtepu16_epi32, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi16, _mm256_shuffle_epi8, _mm256_storeu_si256,
    _mm256_unpackhi_epi32, _mm256_unpacklo_epi32,
};

instruction_set! {
    /// AVX2 and FMA, for codes of at most 4 bits.
    Avx2: "avx2", "fma"
}

// SAFETY: the list above has AVX2 and FMA.
unsafe impl Ymm for Avx2 {}

impl Avx2 {
    /// [`Avx2::run`] with products of i16.
    #[inline]
    pub(in crate::kernel) fn run_wide<O: Operation>(self, operation: O) -> O::Output {
        #[target_feature(enable = "avx2", enable = "fma")]
        fn enabled<O: Operation>(isa: Avx2Wide, operation: O) -> O::Output {
            operation.run(isa)
        }
        // SAFETY: `enabled` needs AVX2 and FMA, which `self` proves.
        unsafe { enabled(Avx2Wide(self), operation) }
    }

    /// [`Avx2::run`] with an order and remainders.
    #[inline]
    pub(in crate::kernel) fn run_ordered<O: Operation>(self, operation: O) -> O::Output {
        #[target_feature(enable = "avx2", enable = "fma")]
        fn enabled<O: Operation>(isa: Avx2Ordered, operation: O) -> O::Output {
            operation.run(isa)
        }
        // SAFETY: `enabled` needs AVX2 and FMA, which `self` proves.
        unsafe { enabled(Avx2Ordered(self), operation) }
    }

    /// Pairs of products of unsigned and signed bytes, in i16.
    #[inline(always)]
    fn pairs(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_maddubs_epi16(a, b) }
    }

    #[inline(always)]
    fn add_pairs(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi16(a, b) }
    }

    #[inline(always)]
    fn ones(self) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_epi16(1) }
    }

    /// Pairs of products of i16, in i32.
    #[inline(always)]
    fn wide_pairs(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_madd_epi16(a, b) }
    }

    /// Adds pairs of sums in i16 to sums in i32.
    #[inline(always)]
    fn add_wide<const R: usize>(self, sums: &mut [[__m256i; 2]; R], pairs: &[[__m256i; 2]; R]) {
        for r in 0..R {
            for v in 0..2 {
                let wide = self.wide_pairs(pairs[r][v], self.ones());
                sums[r][v] = self.ymm_add_sums(sums[r][v], wide);
            }
        }
    }

    /// Writes the bytes of each half that `order` names.
    #[inline(always)]
    fn shuffle(self, bytes: __m256i, order: __m256i, to: &mut [u8; 32]) {
        // SAFETY: `self` proves AVX2.
        let shuffled = unsafe { _mm256_shuffle_epi8(bytes, order) };
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), shuffled) }
    }

    /// Pairs of codes, each pair in the low bytes of a lane.
    #[inline(always)]
    fn widen_twice(self, from: &[i8; 16]) -> __m256i {
        // SAFETY: AVX2 implies SSE2; the reference is to the 16 bytes that are read.
        let codes = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepu16_epi32(codes) }
    }

    /// 8 codes as i32.
    #[inline(always)]
    fn widen_four_times(self, from: &[i8; 8]) -> __m256i {
        // SAFETY: AVX2 implies SSE2; the reference is to the 8 bytes that are read.
        let codes = unsafe { _mm_loadl_epi64(from.as_ptr().cast()) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepi8_epi32(codes) }
    }

    /// Of lanes of four values, one for each of 16 columns: values 0 and 1 of all columns, and 2
    /// and 3.
    #[inline(always)]
    fn by_value(self, lanes: [__m256i; 2]) -> [__m256i; 2] {
        let (first, second) = (self.fours(lanes[0]), self.fours(lanes[1]));
        // SAFETY: `self` proves AVX2.
        let low = unsafe { _mm256_unpacklo_epi32(first, second) };
        // SAFETY: `self` proves AVX2.
        let high = unsafe { _mm256_unpackhi_epi32(first, second) };
        [self.halves_joined(low), self.halves_joined(high)]
    }

    /// In each half, bytes 0, 4, 8 and 12 together, then those that follow them.
    #[inline(always)]
    fn fours(self, lanes: __m256i) -> __m256i {
        const HALF: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
        let order: [u8; 32] = bytemuck::cast([HALF, HALF]);
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_shuffle_epi8(lanes, self.ymm_bytes(&order)) }
    }

    /// Lanes of the two halves by turns.
    #[inline(always)]
    fn halves_joined(self, lanes: __m256i) -> __m256i {
        let order = self.ymm_load_sums(&[0, 4, 1, 5, 2, 6, 3, 7]);
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_permutevar8x32_epi32(lanes, order) }
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
                        pairs[r][v] = if s == 0 { pair } else { self.add_pairs(pairs[r][v], pair) };
                    }
                }
            }
            self.add_wide(sums, &pairs);
        }
    }

    const UNPACKS: bool = true;

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
                        let both = self.add_pairs(
                            self.pairs(first, codes[v][0]),
                            self.pairs(second, codes[v][1]),
                        );
                        pairs[r][v] = self.add_pairs(pairs[r][v], both);
                    }
                }
            }
            self.add_wide(sums, &pairs);
        }
    }
}

/// AVX2 for 8-bit codes in an order in which pairs fit i16; what does not is in the remainders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Avx2Ordered(Avx2);

// SAFETY: a value holds one of `Avx2`, which proves AVX2 and FMA.
unsafe impl Ymm for Avx2Ordered {}

impl Isa for Avx2Ordered {
    ymm_isa!();

    type Step = [[i8; 32]; 2];

    const VALUES: usize = 4;
    // 5 rows · 2 vectors = 10 sums, 2 vectors of codes, a broadcast, a temporary, ones: 15 of 16
    // registers.
    const ROWS: usize = 5;
    const ORDERED: bool = true;

    #[inline(always)]
    fn lanes(self, step: &Self::Step, v: usize) -> __m256i {
        self.ymm_codes(&step[v])
    }

    #[inline(always)]
    fn reorder<const R: usize>(self, from: &[Line; R], order: &Line, to: &mut [Line; R]) {
        let (order, _) = order.bytes().as_chunks();
        for (half, order) in order.iter().enumerate() {
            let order = self.ymm_bytes(order);
            for r in 0..R {
                let (from, _) = from[r].bytes().as_chunks();
                let (to, _) = to[r].bytes_mut().as_chunks_mut();
                self.0.shuffle(self.ymm_bytes(&from[half]), order, &mut to[half]);
            }
        }
    }

    #[inline(always)]
    fn by_value(self, step: &Self::Step) -> [[i8; 16]; 4] {
        let [low, high] = self.0.by_value([self.ymm_codes(&step[0]), self.ymm_codes(&step[1])]);
        let mut values = [[0; 32]; 2];
        self.ymm_store_codes(low, &mut values[0]);
        self.ymm_store_codes(high, &mut values[1]);
        bytemuck::cast(values)
    }

    #[inline(always)]
    fn of_value(self, value: &[i8; 16], v: usize) -> Self::Floats {
        self.ymm_to_floats(self.0.widen_four_times(&value.as_chunks().0[v]))
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
                for v in 0..2 {
                    let pairs = self.0.pairs(values, codes[v]);
                    let wide = self.0.wide_pairs(pairs, self.0.ones());
                    sums[r][v] = self.ymm_add_sums(sums[r][v], wide);
                }
            }
        }
    }
}

/// AVX2 with products of i16: a step is two values of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Avx2Wide(Avx2);

// SAFETY: a value holds one of `Avx2`, which proves AVX2 and FMA.
unsafe impl Ymm for Avx2Wide {}

impl Isa for Avx2Wide {
    ymm_isa!();

    type Step = [[i8; 16]; 2];

    const VALUES: usize = 2;
    // 5 rows · 2 vectors = 10 sums, 2 vectors of codes, a broadcast, a temporary: 14 of 16
    // registers. A sixth row fills them, and the compiler then keeps two sums in memory.
    const ROWS: usize = 5;

    #[inline(always)]
    fn lanes(self, step: &Self::Step, v: usize) -> __m256i {
        self.0.widen_twice(&step[v])
    }

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        b: &[Self::Step],
    ) {
        for (s, step) in b.iter().enumerate().take(Line::STEPS) {
            let codes = [self.0.widen(&step[0]), self.0.widen(&step[1])];
            for r in 0..R {
                let values = self.ymm_broadcast(a[r].0[s]);
                for v in 0..2 {
                    let pairs = self.0.wide_pairs(values, codes[v]);
                    sums[r][v] = self.ymm_add_sums(sums[r][v], pairs);
                }
            }
        }
    }
}
