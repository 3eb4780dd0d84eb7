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

/// For each row the sums of a vector of columns, two for each.
type Partial<T, const R: usize> = [[T; 4]; R];

/// The products of the values of a k-step with the codes of the columns of a vector.
#[target_feature(enable = "neon")]
#[inline]
fn products(values: int8x16_t, codes: [int8x16_t; 2]) -> [int16x8_t; 4] {
    let low = vget_low_s8(values);
    [
        vmull_s8(vget_low_s8(codes[0]), low),
        vmull_high_s8(codes[0], values),
        vmull_s8(vget_low_s8(codes[1]), low),
        vmull_high_s8(codes[1], values),
    ]
}

/// Adds [`products`] in i32, in pairs.
#[target_feature(enable = "neon")]
#[inline]
fn add_products(sums: &mut [int32x4_t; 4], values: i32, codes: [int8x16_t; 2]) {
    let products = products(vreinterpretq_s8_s32(vdupq_n_s32(values)), codes);
    for i in 0..4 {
        sums[i] = vpadalq_s16(sums[i], products[i]);
    }
}

/// Adds [`products`] in i16.
#[target_feature(enable = "neon")]
#[inline]
fn add_small_products(sums: &mut [int16x8_t; 4], values: i32, codes: [int8x16_t; 2]) {
    let values = vreinterpretq_s8_s32(vdupq_n_s32(values));
    let low = vget_low_s8(values);
    *sums = [
        vmlal_s8(sums[0], vget_low_s8(codes[0]), low),
        vmlal_high_s8(sums[1], codes[0], values),
        vmlal_s8(sums[2], vget_low_s8(codes[1]), low),
        vmlal_high_s8(sums[3], codes[1], values),
    ];
}

/// Adds both sums of each column.
#[target_feature(enable = "neon")]
#[inline]
fn add_partial(sums: Ints, partial: [int32x4_t; 4]) -> Ints {
    let [a, b, c, d] = partial;
    [vaddq_s32(sums[0], vpaddq_s32(a, b)), vaddq_s32(sums[1], vpaddq_s32(c, d))]
}

/// [`Isa::accumulate`] for a vector of columns.
#[target_feature(enable = "neon")]
#[inline]
fn accumulate<const R: usize>(
    sums: &mut [[Ints; 2]; R],
    a: &[Line; R],
    first: usize,
    b: &[<Neon as Isa>::KStep],
    v: usize,
) {
    let mut partial: Partial<int32x4_t, R> = [[vdupq_n_s32(0); 4]; R];
    for (s, step) in (first..Line::STEPS).zip(b) {
        let codes = vector::load_codes(&step[v]);
        for r in 0..R {
            add_products(&mut partial[r], a[r].0[s] as i32, codes);
        }
    }
    for r in 0..R {
        sums[r][v] = add_partial(sums[r][v], partial[r]);
    }
}

/// [`Isa::accumulate_packed`] for a vector of columns.
#[target_feature(enable = "neon")]
#[inline]
fn accumulate_packed<const R: usize>(
    sums: &mut [[Ints; 2]; R],
    a: &[Line; R],
    first: usize,
    b: &[<Neon as Isa>::KStep],
    v: usize,
) {
    let mut partial: Partial<int16x8_t, R> = [[vdupq_n_s16(0); 4]; R];
    for (s, step) in (first / 2..Line::STEPS / 2).zip(b) {
        let [low, high] = vector::load_nibbles(&step[v]);
        for r in 0..R {
            add_small_products(&mut partial[r], a[r].0[2 * s] as i32, low);
        }
        for r in 0..R {
            add_small_products(&mut partial[r], a[r].0[2 * s + 1] as i32, high);
        }
    }
    for r in 0..R {
        let wide = partial[r].map(|sums| vpaddlq_s16(sums));
        sums[r][v] = add_partial(sums[r][v], wide);
    }
}

/// [`Isa::dot_signed`]: two products of bytes from -127 on fit i16.
#[target_feature(enable = "neon")]
#[inline]
fn dot_signed(sums: Ints, q: Ints, k: Ints) -> Ints {
    let mut sums = sums;
    for i in 0..2 {
        let (q, k) = (vreinterpretq_s8_s32(q[i]), vreinterpretq_s8_s32(k[i]));
        let low = vmull_s8(vget_low_s8(q), vget_low_s8(k));
        sums[i] = vpadalq_s16(sums[i], vpaddq_s16(low, vmull_high_s8(q, k)));
    }
    sums
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
            // SAFETY: the function needs NEON, which `self` proves.
            unsafe { accumulate(sums, a, first, b, v) }
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
            // SAFETY: the function needs NEON, which `self` proves.
            unsafe { accumulate_packed(sums, a, first, b, v) }
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
