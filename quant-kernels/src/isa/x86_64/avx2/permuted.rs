//! 8-bit codes in a [`permutation`](crate::pack::permutation).
//!
//! ```text
//! for kind of block, block
//!   permute the next block of activations
//!   for two k-steps of this block           in quads; else one k-step at a time
//!     acc += i32(pairs of products + pairs of products)
//! ```
//! 64 products take 3 multiplications on two pipes, and 4 with one k-step at a time. Measured on one core of a Zen
//! 4, GOP/s of the loop alone: 284 and 236; 265 with the permutation of activations, which is spread over the
//! blocks. Additions use those two pipes, too, and the number of instructions matters: permuting two blocks of one
//! row, instead of one block of two rows, made products 5 % slower.
//!
//! Tried without success: assembly for four rows, which keeps every accumulator in a register, is no faster in any
//! of hundreds of instruction orders, since additions take a tenth of the multiplying pipes. `vpsignb`, which fits
//! nearly any weights, adds an operation in the same pipes. A constant added to each quad, which centres its range,
//! fits nearly any weights, too, but then every pipe is busy: 245.

use super::Avx2;
use crate::isa::permuted::{BLOCK, BlockKind, NEGATED, PanelPermutation};
use crate::isa::x86_64::ymm::Ymm;
use crate::isa::{Isa, Line};
use core::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm_storeu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_castsi256_si128, _mm256_cmpgt_epi8, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srai_epi16, _mm256_srli_epi16,
    _mm256_storeu_si256, _mm256_xor_si256,
};

/// AVX2 for permuted 8-bit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2Permuted(pub(super) Avx2);

// SAFETY: a value holds one of `Avx2`, which proves AVX2, FMA and F16C.
unsafe impl Ymm for Avx2Permuted {}

/// The codes of a k-step.
type KStep = [[i8; 32]; 2];

/// The permutations and sources of the rest of a panel, for two blocks each.
type Permutations<'a> =
    core::iter::Zip<core::slice::Iter<'a, [[u8; BLOCK]; 2]>, core::slice::Iter<'a, [u16; 2]>>;

/// The activations of a block of each row.
type Block<const R: usize> = [[u8; BLOCK]; R];

/// The permuted activations of a block.
type Ordered<const R: usize> = [[u32; BLOCK / 4]; R];

/// Two permuted blocks, and the two that follow. The alignment makes the compiler align the stack, and with it
/// spilled accumulators.
#[repr(align(64))]
struct Ahead<const R: usize>([[Ordered<R>; 2]; 2]);

/// Two blocks of codes.
type TwoBlocks = [[KStep; 4]; 2];

impl Avx2Permuted {
    /// Multiplies blocks of a kind, two at a time. `now` holds the activations of the first two; at the end, those of
    /// whatever follows.
    #[inline(always)]
    fn blocks<const R: usize, const KIND: u8>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Block<R>],
        b: &[TwoBlocks],
        permutations: &mut Permutations<'_>,
        [now, next]: &mut [&mut [Ordered<R>; 2]; 2],
    ) {
        for [first, second] in b {
            if let Some(order) = permutations.next() {
                self.reorder(a, order, next);
            }
            self.block::<R, KIND>(sums, &now[0], first);
            self.block::<R, KIND>(sums, &now[1], second);
            core::mem::swap(now, next);
        }
    }

    #[inline(always)]
    fn block<const R: usize, const KIND: u8>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &Ordered<R>,
        [first, second, third, fourth]: &[KStep; 4],
    ) {
        match kind(KIND) {
            BlockKind::Quads => {
                self.quads(sums, a, 0, [first, second]);
                self.quads(sums, a, 2, [third, fourth]);
            }
            BlockKind::HalfQuads => {
                self.quads(sums, a, 0, [first, second]);
                self.pairs(sums, a, 2, third);
                self.pairs(sums, a, 3, fourth);
            }
            BlockKind::Pairs => {
                self.pairs(sums, a, 0, first);
                self.pairs(sums, a, 1, second);
                self.pairs(sums, a, 2, third);
                self.pairs(sums, a, 3, fourth);
            }
            BlockKind::Wide => {
                self.wide(sums, a, 0, first);
                self.wide(sums, a, 1, second);
                self.wide(sums, a, 2, third);
                self.wide(sums, a, 3, fourth);
            }
        }
    }

    /// Adds the products of two k-steps, from `s` on, summed in i16.
    #[inline(always)]
    fn quads<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &Ordered<R>,
        s: usize,
        [first, second]: [&KStep; 2],
    ) {
        let first = [self.ymm_codes(&first[0]), self.ymm_codes(&first[1])];
        let second = [self.ymm_codes(&second[0]), self.ymm_codes(&second[1])];
        for r in 0..R {
            let values = [self.ymm_broadcast(a[r][s]), self.ymm_broadcast(a[r][s + 1])];
            for v in 0..2 {
                let pairs = [self.0.pairs(values[0], first[v]), self.0.pairs(values[1], second[v])];
                let wide = self.0.wide_pairs(self.0.add_i16(pairs[0], pairs[1]), self.0.ones());
                sums[r][v] = self.ymm_add_ints(sums[r][v], wide);
            }
        }
    }

    /// Adds the products of k-step `s`.
    #[inline(always)]
    fn pairs<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &Ordered<R>,
        s: usize,
        b: &KStep,
    ) {
        let codes = [self.ymm_codes(&b[0]), self.ymm_codes(&b[1])];
        for r in 0..R {
            let values = self.ymm_broadcast(a[r][s]);
            for v in 0..2 {
                let wide = self.0.wide_pairs(self.0.pairs(values, codes[v]), self.0.ones());
                sums[r][v] = self.ymm_add_ints(sums[r][v], wide);
            }
        }
    }

    /// Adds the products of k-step `s`, of even and odd bytes separately.
    #[inline(always)]
    fn wide<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &Ordered<R>,
        s: usize,
        b: &KStep,
    ) {
        let codes = [self.signed(&b[0]), self.signed(&b[1])];
        for r in 0..R {
            let values = self.unsigned(self.ymm_broadcast(a[r][s]));
            for v in 0..2 {
                for i in 0..2 {
                    let wide = self.0.wide_pairs(values[i], codes[v][i]);
                    sums[r][v] = self.ymm_add_ints(sums[r][v], wide);
                }
            }
        }
    }

    /// The even and the odd bytes as i16.
    #[inline(always)]
    fn signed(self, codes: &[i8; 32]) -> [__m256i; 2] {
        let codes = self.ymm_codes(codes);
        // SAFETY: `self` proves AVX2.
        let even = unsafe { _mm256_slli_epi16::<8>(codes) };
        // SAFETY: `self` proves AVX2.
        let even = unsafe { _mm256_srai_epi16::<8>(even) };
        // SAFETY: `self` proves AVX2.
        let odd = unsafe { _mm256_srai_epi16::<8>(codes) };
        [even, odd]
    }

    /// The even and the odd unsigned bytes as i16.
    #[inline(always)]
    fn unsigned(self, bytes: __m256i) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2.
        let low = unsafe { _mm256_set1_epi16(0xff) };
        // SAFETY: `self` proves AVX2.
        let even = unsafe { _mm256_and_si256(bytes, low) };
        // SAFETY: `self` proves AVX2.
        let odd = unsafe { _mm256_srli_epi16::<8>(bytes) };
        [even, odd]
    }

    /// Permutes two blocks of each row; activations of negated codes become `255 - a`.
    #[inline(always)]
    fn reorder<const R: usize>(
        self,
        a: &[Block<R>],
        (patterns, sources): (&[[u8; BLOCK]; 2], &[u16; 2]),
        to: &mut [Ordered<R>; 2],
    ) {
        for i in 0..2 {
            let a = &a[usize::from(sources[i])];
            let pattern = self.twice(&patterns[i]);
            let negated = self.negated(pattern);
            // By index, because iterators over parts of two rows are not unrolled.
            for two in 0..R / 2 {
                let rows = self.ymm_bytes(&a.as_flattened().as_chunks().0[two]);
                let rows = self.negate(self.shuffle(rows, pattern), negated);
                self.store(rows, &mut to[i].as_flattened_mut().as_chunks_mut().0[two]);
            }
            if R % 2 == 1 {
                let row = self.shuffle(self.twice(&a[R - 1]), pattern);
                self.store_half(self.negate(row, negated), &mut to[i][R - 1]);
            }
        }
    }

    /// Loads the same bytes into both halves.
    #[inline(always)]
    fn twice(self, bytes: &[u8; BLOCK]) -> __m256i {
        // SAFETY: AVX2 implies SSE2; the reference is to the 16 bytes that are read.
        let half = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_broadcastsi128_si256(half) }
    }

    #[inline(always)]
    fn store(self, bytes: __m256i, to: &mut [u32; BLOCK / 2]) {
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes) }
    }

    #[inline(always)]
    fn store_half(self, bytes: __m256i, to: &mut [u32; BLOCK / 4]) {
        // SAFETY: `self` proves AVX2.
        let half = unsafe { _mm256_castsi256_si128(bytes) };
        // SAFETY: AVX2 implies SSE2; the reference is to the 16 bytes that are written.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), half) }
    }

    #[inline(always)]
    fn shuffle(self, bytes: __m256i, pattern: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_shuffle_epi8(bytes, pattern) }
    }

    /// All bits of the bytes whose code a pattern negates.
    #[inline(always)]
    fn negated(self, pattern: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        let positive = unsafe { _mm256_set1_epi8(NEGATED as i8 - 1) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cmpgt_epi8(pattern, positive) }
    }

    #[inline(always)]
    fn negate(self, bytes: __m256i, negated: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_xor_si256(bytes, negated) }
    }
}

/// The kind with this number.
const fn kind(number: u8) -> BlockKind {
    match number {
        0 => BlockKind::Quads,
        1 => BlockKind::HalfQuads,
        2 => BlockKind::Pairs,
        _ => BlockKind::Wide,
    }
}

impl Isa for Avx2Permuted {
    ymm_isa!();

    type KStep = KStep;

    const KR: usize = 4;
    // 4 rows · 2 vectors = 8 accumulators, 4 vectors of codes, 2 broadcasts, a temporary, ones: 16 registers.
    const MR: usize = 4;
    // Two blocks.
    const GROUP: usize = 2 * BLOCK / Self::KR;
    const PERMUTED: bool = true;

    #[inline(always)]
    fn lanes(self, step: &KStep, v: usize) -> __m256i {
        self.ymm_codes(&step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Ints) -> Self::Floats {
        self.ymm_byte::<J>(lanes)
    }

    /// Not called: these codes are permuted.
    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        _: &mut [[__m256i; 2]; R],
        _: &[Line; R],
        _: usize,
        _: &[KStep],
    ) {
    }

    #[inline(always)]
    fn accumulate_permuted<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[[Line; R]],
        b: &[KStep],
        order: PanelPermutation<'_>,
    ) {
        let quarters: &[[u8; BLOCK]] = bytemuck::cast_slice(a.as_flattened());
        let a = quarters.as_chunks().0;
        let mut permutations = order.patterns.as_chunks().0.iter().zip(order.sources.as_chunks().0);
        let mut ahead = Ahead([[[[0; BLOCK / 4]; R]; 2]; 2]);
        if let Some(order) = permutations.next() {
            self.reorder(a, order, &mut ahead.0[0]);
        }
        let [quads, half, pairs, _] = order.pairs;
        let (quads, b) = b.as_chunks::<4>().0.as_chunks().0.split_at(quads);
        let (half, b) = b.split_at(half);
        let (pairs, wide) = b.split_at(pairs);
        let (permutations, rows) = (&mut permutations, &mut ahead.0.each_mut());
        self.blocks::<R, { BlockKind::Quads as u8 }>(sums, a, quads, permutations, rows);
        self.blocks::<R, { BlockKind::HalfQuads as u8 }>(sums, a, half, permutations, rows);
        self.blocks::<R, { BlockKind::Pairs as u8 }>(sums, a, pairs, permutations, rows);
        self.blocks::<R, { BlockKind::Wide as u8 }>(sums, a, wide, permutations, rows);
    }
}
