//! 8-bit codes in an [`order`](crate::kernel::order).
//!
//! ```text
//! for kind of block, block
//!   bring the next block of activations into its order
//!   for two steps of this block             in blocks of fours; else one by one
//!     sums += i32(pairs of products + pairs of products)
//! ```
//! Two pipes do 3 multiplications in 64 products; with one step at a time, 4. Measured on one core of a
//! Zen 4, GOP/s of the loop alone: 284 and 236; and 265 with bringing activations into their order,
//! which is spread over the blocks. Additions take turns of those two pipes, too, and every instruction
//! counts: an order of two blocks of one row, instead of one of two rows, made products 5 % slower.
//!
//! Tried and left. Assembly for four rows, which keeps every sum in a register, is no faster, in any of
//! hundreds of orders: whatever stands where, additions take a tenth of the multiplying pipes. `vpsignb`,
//! which fits with nearly any weights, has one more operation in the same pipes. A constant added to
//! each four, so that its range is centred, fits with nearly any weights, too, but every pipe is then
//! busy: 245.

use super::Avx2;
use crate::isa::permuted::{BLOCK, Kind, MIRRORED, Order};
use crate::isa::x86_64::ymm::Ymm;
use crate::isa::{Isa, Line};
use core::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm_storeu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_castsi256_si128, _mm256_cmpgt_epi8, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srai_epi16, _mm256_srli_epi16,
    _mm256_storeu_si256, _mm256_xor_si256,
};

/// AVX2 for 8-bit codes in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2Ordered(pub(super) Avx2);

// SAFETY: a value holds one of `Avx2`, which proves AVX2 and FMA.
unsafe impl Ymm for Avx2Ordered {}

/// Codes of a step.
type Step = [[i8; 32]; 2];

/// Orders and sources of what is left of a panel, for two blocks each.
type Orders<'a> =
    core::iter::Zip<core::slice::Iter<'a, [[u8; BLOCK]; 2]>, core::slice::Iter<'a, [u16; 2]>>;

/// The activations of a block of each row.
type Block<const R: usize> = [[u8; BLOCK]; R];

/// The same in order.
type Ordered<const R: usize> = [[u32; BLOCK / 4]; R];

/// Two blocks in order, and the two that come next. Their alignment gives sums that wait in memory an
/// aligned place, too: the compiler aligns the stack for either or for none.
#[repr(align(64))]
struct Ahead<const R: usize>([[Ordered<R>; 2]; 2]);

/// Two blocks of codes.
type TwoBlocks = [[Step; 4]; 2];

impl Avx2Ordered {
    /// Blocks of a kind, two at a time; `now` holds the activations of the first two, and those of
    /// whatever comes next at the end.
    #[inline(always)]
    fn blocks<const R: usize, const KIND: u8>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Block<R>],
        b: &[TwoBlocks],
        orders: &mut Orders<'_>,
        [now, next]: &mut [&mut [Ordered<R>; 2]; 2],
    ) {
        for [first, second] in b {
            if let Some(order) = orders.next() {
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
        [first, second, third, fourth]: &[Step; 4],
    ) {
        match kind(KIND) {
            Kind::Fours => {
                self.fours(sums, a, 0, [first, second]);
                self.fours(sums, a, 2, [third, fourth]);
            }
            Kind::Half => {
                self.fours(sums, a, 0, [first, second]);
                self.pairs(sums, a, 2, third);
                self.pairs(sums, a, 3, fourth);
            }
            Kind::Pairs => {
                self.pairs(sums, a, 0, first);
                self.pairs(sums, a, 1, second);
                self.pairs(sums, a, 2, third);
                self.pairs(sums, a, 3, fourth);
            }
            Kind::Wide => {
                self.wide(sums, a, 0, first);
                self.wide(sums, a, 1, second);
                self.wide(sums, a, 2, third);
                self.wide(sums, a, 3, fourth);
            }
        }
    }

    /// Two steps, from `s` on, together in i16.
    #[inline(always)]
    fn fours<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &Ordered<R>,
        s: usize,
        [first, second]: [&Step; 2],
    ) {
        let first = [self.ymm_codes(&first[0]), self.ymm_codes(&first[1])];
        let second = [self.ymm_codes(&second[0]), self.ymm_codes(&second[1])];
        for r in 0..R {
            let values = [self.ymm_broadcast(a[r][s]), self.ymm_broadcast(a[r][s + 1])];
            for v in 0..2 {
                let pairs = [self.0.pairs(values[0], first[v]), self.0.pairs(values[1], second[v])];
                let wide = self.0.wide_pairs(self.0.add_i16(pairs[0], pairs[1]), self.0.ones());
                sums[r][v] = self.ymm_add_sums(sums[r][v], wide);
            }
        }
    }

    /// Step `s`.
    #[inline(always)]
    fn pairs<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &Ordered<R>,
        s: usize,
        b: &Step,
    ) {
        let codes = [self.ymm_codes(&b[0]), self.ymm_codes(&b[1])];
        for r in 0..R {
            let values = self.ymm_broadcast(a[r][s]);
            for v in 0..2 {
                let wide = self.0.wide_pairs(self.0.pairs(values, codes[v]), self.0.ones());
                sums[r][v] = self.ymm_add_sums(sums[r][v], wide);
            }
        }
    }

    /// Step `s`, its even and its odd bytes apart.
    #[inline(always)]
    fn wide<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &Ordered<R>,
        s: usize,
        b: &Step,
    ) {
        let codes = [self.signed(&b[0]), self.signed(&b[1])];
        for r in 0..R {
            let values = self.unsigned(self.ymm_broadcast(a[r][s]));
            for v in 0..2 {
                for i in 0..2 {
                    let wide = self.0.wide_pairs(values[i], codes[v][i]);
                    sums[r][v] = self.ymm_add_sums(sums[r][v], wide);
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

    /// The same for unsigned bytes.
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

    /// Two blocks of each row in their order; mirrored activations are `255 - a`.
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
            let mirrored = self.mirrored(pattern);
            // By number, because iterators over parts of two rows stay loops.
            for two in 0..R / 2 {
                let rows = self.ymm_bytes(&a.as_flattened().as_chunks().0[two]);
                let rows = self.mirror(self.shuffle(rows, pattern), mirrored);
                self.store(rows, &mut to[i].as_flattened_mut().as_chunks_mut().0[two]);
            }
            if R % 2 == 1 {
                let row = self.shuffle(self.twice(&a[R - 1]), pattern);
                self.store_half(self.mirror(row, mirrored), &mut to[i][R - 1]);
            }
        }
    }

    /// The same in both halves.
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

    /// All bits of the bytes that a pattern mirrors.
    #[inline(always)]
    fn mirrored(self, pattern: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        let unmirrored = unsafe { _mm256_set1_epi8(MIRRORED as i8 - 1) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cmpgt_epi8(pattern, unmirrored) }
    }

    #[inline(always)]
    fn mirror(self, bytes: __m256i, mirrored: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_xor_si256(bytes, mirrored) }
    }
}

/// The kind of this number.
const fn kind(number: u8) -> Kind {
    match number {
        0 => Kind::Fours,
        1 => Kind::Half,
        2 => Kind::Pairs,
        _ => Kind::Wide,
    }
}

impl Isa for Avx2Ordered {
    ymm_isa!();

    type Step = Step;

    const VALUES: usize = 4;
    // 4 rows · 2 vectors = 8 sums, 4 vectors of codes, 2 broadcasts, a temporary, ones: 16 registers.
    const ROWS: usize = 4;
    // Two blocks.
    const GROUP: usize = 2 * BLOCK / Self::VALUES;
    const BASES: bool = true;
    const ORDERED: bool = true;

    #[inline(always)]
    fn lanes(self, step: &Step, v: usize) -> __m256i {
        self.ymm_codes(&step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Sums) -> Self::Floats {
        self.ymm_byte::<J>(lanes)
    }

    /// Codes of this kind have an order.
    #[inline(always)]
    fn accumulate<const R: usize>(self, _: &mut [[__m256i; 2]; R], _: &[Line; R], _: &[Step]) {}

    #[inline(always)]
    fn accumulate_ordered<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[[Line; R]],
        b: &[Step],
        order: Order<'_>,
    ) {
        let quarters: &[[u8; BLOCK]] = bytemuck::cast_slice(a.as_flattened());
        let a = quarters.as_chunks().0;
        let mut orders = order.patterns.as_chunks().0.iter().zip(order.sources.as_chunks().0);
        let mut ahead = Ahead([[[[0; BLOCK / 4]; R]; 2]; 2]);
        if let Some(order) = orders.next() {
            self.reorder(a, order, &mut ahead.0[0]);
        }
        let [fours, half, pairs, _] = order.pairs;
        let (fours, b) = b.as_chunks::<4>().0.as_chunks().0.split_at(fours);
        let (half, b) = b.split_at(half);
        let (pairs, wide) = b.split_at(pairs);
        let (orders, rows) = (&mut orders, &mut ahead.0.each_mut());
        self.blocks::<R, { Kind::Fours as u8 }>(sums, a, fours, orders, rows);
        self.blocks::<R, { Kind::Half as u8 }>(sums, a, half, orders, rows);
        self.blocks::<R, { Kind::Pairs as u8 }>(sums, a, pairs, orders, rows);
        self.blocks::<R, { Kind::Wide as u8 }>(sums, a, wide, orders, rows);
    }
}
