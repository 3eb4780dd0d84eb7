//! NEON, which every aarch64 CPU with vectors has.
//!
//! `smull` gives products of bytes in i16, and `sadalp` adds pairs of i16 to i32. A k-step has four values of each
//! column, so each column has two sums until the end of a line. Codes of 4 bits need `sadalp` only there: 16
//! products of at most `128 · 15` fit i16.

use super::vector::{self, Ints};
use crate::isa::{Isa, Line};
use core::arch::aarch64::*;

instruction_set! {
    /// NEON.
    Neon: "neon"
}

/// The codes of a k-step for the columns of a vector.
type Codes = [int8x16_t; 2];

/// For each row the sums of the columns of a vector, two for each.
type Partial<T, const R: usize> = [[T; 4]; R];

/// Adds the products of the values of a k-step and codes in i32, in pairs.
#[target_feature(enable = "neon")]
#[inline]
fn add_products(sums: [int32x4_t; 4], values: u32, [a, b]: Codes) -> [int32x4_t; 4] {
    let values = vreinterpretq_s8_u32(vdupq_n_u32(values));
    let low = vget_low_s8(values);
    [
        vpadalq_s16(sums[0], vmull_s8(vget_low_s8(a), low)),
        vpadalq_s16(sums[1], vmull_high_s8(a, values)),
        vpadalq_s16(sums[2], vmull_s8(vget_low_s8(b), low)),
        vpadalq_s16(sums[3], vmull_high_s8(b, values)),
    ]
}

/// Adds the products of the values of a k-step and codes of 4 bits in i16.
#[target_feature(enable = "neon")]
#[inline]
fn add_small_products(sums: [int16x8_t; 4], values: u32, [a, b]: Codes) -> [int16x8_t; 4] {
    let values = vreinterpretq_s8_u32(vdupq_n_u32(values));
    let low = vget_low_s8(values);
    [
        vmlal_s8(sums[0], vget_low_s8(a), low),
        vmlal_high_s8(sums[1], a, values),
        vmlal_s8(sums[2], vget_low_s8(b), low),
        vmlal_high_s8(sums[3], b, values),
    ]
}

/// Adds both sums of each column.
#[target_feature(enable = "neon")]
#[inline]
fn add_partial(sums: Ints, [a, b, c, d]: [int32x4_t; 4]) -> Ints {
    [vaddq_s32(sums[0], vpaddq_s32(a, b)), vaddq_s32(sums[1], vpaddq_s32(c, d))]
}

/// Adds both sums of each column, which are pairs of i16.
#[target_feature(enable = "neon")]
#[inline]
fn add_small_partial(sums: Ints, partial: [int16x8_t; 4]) -> Ints {
    add_partial(sums, partial.map(|sums| vpaddlq_s16(sums)))
}

/// [`Isa::dot_signed`]: two products of bytes from -127 on fit i16.
#[target_feature(enable = "neon")]
#[inline]
fn dot_signed(mut sums: Ints, q: Ints, k: Ints) -> Ints {
    for i in 0..2 {
        let (q, k) = (vreinterpretq_s8_s32(q[i]), vreinterpretq_s8_s32(k[i]));
        let low = vmull_s8(vget_low_s8(q), vget_low_s8(k));
        sums[i] = vpadalq_s16(sums[i], vpaddq_s16(low, vmull_high_s8(q, k)));
    }
    sums
}

impl Neon {
    #[inline(always)]
    fn load_codes(self, from: &vector::Codes) -> Codes {
        // SAFETY: the function needs NEON, which `self` proves; so below.
        unsafe { vector::load_codes(from) }
    }

    #[inline(always)]
    fn load_nibbles(self, from: &vector::Codes) -> [Codes; 2] {
        // SAFETY: as above.
        unsafe { vector::load_nibbles(from) }
    }

    /// [`Isa::accumulate`] for the columns of vector `v`.
    #[inline(always)]
    fn add_line<const R: usize>(
        self,
        sums: &mut [[Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[<Self as Isa>::KStep],
        v: usize,
    ) {
        let mut partial: Partial<int32x4_t, R> = [[self.zero()[0]; 4]; R];
        for (s, step) in (first..Line::STEPS).zip(b) {
            let codes = self.load_codes(&step[v]);
            for r in 0..R {
                // SAFETY: the function needs NEON, which `self` proves.
                partial[r] = unsafe { add_products(partial[r], a[r].0[s], codes) };
            }
        }
        for r in 0..R {
            // SAFETY: the function needs NEON, which `self` proves.
            sums[r][v] = unsafe { add_partial(sums[r][v], partial[r]) };
        }
    }

    /// [`Isa::accumulate_packed`] for the columns of vector `v`.
    #[inline(always)]
    fn add_packed_line<const R: usize>(
        self,
        sums: &mut [[Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[<Self as Isa>::KStep],
        v: usize,
    ) {
        // SAFETY: the function needs NEON, which `self` proves.
        let zero = unsafe { vdupq_n_s16(0) };
        let mut partial: Partial<int16x8_t, R> = [[zero; 4]; R];
        for (s, step) in (first / 2..Line::STEPS / 2).zip(b) {
            let [low, high] = self.load_nibbles(&step[v]);
            for r in 0..R {
                // SAFETY: the function needs NEON, which `self` proves.
                partial[r] = unsafe { add_small_products(partial[r], a[r].0[2 * s], low) };
            }
            for r in 0..R {
                // SAFETY: the function needs NEON, which `self` proves.
                partial[r] = unsafe { add_small_products(partial[r], a[r].0[2 * s + 1], high) };
            }
        }
        for r in 0..R {
            // SAFETY: the function needs NEON, which `self` proves.
            sums[r][v] = unsafe { add_small_partial(sums[r][v], partial[r]) };
        }
    }
}

impl Isa for Neon {
    neon_isa!();

    // 4 rows · 4 vectors = 16 sums of half a panel, 2 vectors of codes, broadcasts and products: 32 registers.
    const MR: usize = 4;

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep],
    ) {
        for v in 0..2 {
            self.add_line(sums, a, first, b, v);
        }
    }

    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        sums: &mut [[Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep],
    ) {
        for v in 0..2 {
            self.add_packed_line(sums, a, first, b, v);
        }
    }

    #[inline(always)]
    fn dot_signed(self, sums: Ints, q: Ints, k: Ints) -> Ints {
        // SAFETY: the function needs NEON, which `self` proves.
        unsafe { dot_signed(sums, q, k) }
    }

    #[inline(always)]
    fn dot_unsigned(self, sums: Ints, q: Ints, u: Ints) -> Ints {
        self.dot_signed(sums, q, u)
    }
}
