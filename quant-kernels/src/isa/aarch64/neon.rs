//! NEON, which every aarch64 CPU with vectors has.
//!
//! `smull` gives products of bytes in i16, and `sadalp` adds pairs of i16 to i32. A k-step has four values of each
//! column, so each column has two sums until the end of a line. Codes of 4 bits need `sadalp` only there: 16
//! products of at most `128 · 15` fit i16.
//!
//! The loops are functions that are not inlined: the accumulators of a tile and the sums of a line would be too many
//! for the registers, and the compiler (of Rust 1.95) would move the latter in every k-step.

use super::vector::{self, Ints};
use crate::isa::{Isa, Line};
use core::arch::aarch64::*;

instruction_set! {
    /// NEON.
    Neon: "neon"
}

/// The codes of a k-step in memory, and those of a vector of columns in registers.
type KStep = <Neon as Isa>::KStep;
type Codes = [int8x16_t; 2];

/// For each row the sums of the columns of a vector, two for each.
type Partial<T, const R: usize> = [[T; 4]; R];

/// K-steps whose values of a row are loaded together.
const TOGETHER: usize = 4;

/// Adds the products of k-step `LANE` of a row and codes in i32, in pairs.
#[target_feature(enable = "neon")]
#[inline]
fn add<const LANE: i32>(sums: &mut [int32x4_t; 4], values: int8x16_t, [a, b]: Codes) {
    let values = k_step::<LANE>(values);
    sums[0] = vpadalq_s16(sums[0], vmull_s8(vget_low_s8(a), values));
    sums[1] = vpadalq_s16(sums[1], vmull_s8(vget_high_s8(a), values));
    sums[2] = vpadalq_s16(sums[2], vmull_s8(vget_low_s8(b), values));
    sums[3] = vpadalq_s16(sums[3], vmull_s8(vget_high_s8(b), values));
}

/// Adds the products of k-step `LANE` of a row and codes of 4 bits in i16.
#[target_feature(enable = "neon")]
#[inline]
fn add_small<const LANE: i32>(sums: &mut [int16x8_t; 4], values: int8x16_t, [a, b]: Codes) {
    let values = k_step::<LANE>(values);
    sums[0] = vmlal_s8(sums[0], vget_low_s8(a), values);
    sums[1] = vmlal_s8(sums[1], vget_high_s8(a), values);
    sums[2] = vmlal_s8(sums[2], vget_low_s8(b), values);
    sums[3] = vmlal_s8(sums[3], vget_high_s8(b), values);
}

/// The values of k-step `LANE` of a row, twice.
#[target_feature(enable = "neon")]
#[inline]
fn k_step<const LANE: i32>(values: int8x16_t) -> int8x8_t {
    vreinterpret_s8_s32(vdup_laneq_s32::<LANE>(vreinterpretq_s32_s8(values)))
}

/// Adds both sums of each column.
#[target_feature(enable = "neon")]
#[inline]
fn add_partial(sums: &mut Ints, [a, b, c, d]: [int32x4_t; 4]) {
    sums[0] = vaddq_s32(sums[0], vpaddq_s32(a, b));
    sums[1] = vaddq_s32(sums[1], vpaddq_s32(c, d));
}

/// [`Isa::accumulate`] for the columns of vector `v`.
#[target_feature(enable = "neon")]
#[inline(never)]
fn add_line<const R: usize>(
    sums: &mut [[Ints; 2]; R],
    a: &[Line; R],
    first: usize,
    b: &[[KStep; TOGETHER]],
    v: usize,
) {
    let mut partial: Partial<int32x4_t, R> = [[vdupq_n_s32(0); 4]; R];
    for (group, steps) in (first / TOGETHER..Line::STEPS / TOGETHER).zip(b) {
        let values = vector::load_rows(a, group);
        macro_rules! steps {
            ($($lane:literal)+) => {
                $(
                    let codes = vector::load_codes(&steps[$lane][v]);
                    for r in 0..R {
                        add::<$lane>(&mut partial[r], values[r], codes);
                    }
                )+
            };
        }
        steps!(0 1 2 3);
    }
    for r in 0..R {
        add_partial(&mut sums[r][v], partial[r]);
    }
}

/// [`Isa::accumulate_packed`] for the columns of vector `v`.
#[target_feature(enable = "neon")]
#[inline(never)]
fn add_packed_line<const R: usize>(
    sums: &mut [[Ints; 2]; R],
    a: &[Line; R],
    first: usize,
    b: &[[KStep; TOGETHER / 2]],
    v: usize,
) {
    let mut partial: Partial<int16x8_t, R> = [[vdupq_n_s16(0); 4]; R];
    for (group, steps) in (first / TOGETHER..Line::STEPS / TOGETHER).zip(b) {
        let values = vector::load_rows(a, group);
        macro_rules! steps {
            ($($step:literal: $low:literal $high:literal)+) => {
                $(
                    let [low, high] = vector::load_nibbles(&steps[$step][v]);
                    for r in 0..R {
                        add_small::<$low>(&mut partial[r], values[r], low);
                    }
                    for r in 0..R {
                        add_small::<$high>(&mut partial[r], values[r], high);
                    }
                )+
            };
        }
        steps!(0: 0 1  1: 2 3);
    }
    for r in 0..R {
        add_partial(&mut sums[r][v], partial[r].map(|sums| vpaddlq_s16(sums)));
    }
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

impl Isa for Neon {
    neon_isa!();

    // 4 rows · 4 vectors = 16 sums of half a panel, 4 vectors of values and 2 of codes, and products: 32 registers.
    const MR: usize = 4;
    const GROUP: usize = TOGETHER;

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
            unsafe { add_line(sums, a, first, b.as_chunks().0, v) }
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
            unsafe { add_packed_line(sums, a, first, b.as_chunks().0, v) }
        }
    }

    #[inline(always)]
    fn dot_signed(self, sums: Ints, q: Ints, k: Ints) -> Ints {
        // SAFETY: the function needs NEON, which `self` proves.
        unsafe { dot_signed(sums, q, k) }
    }
}
