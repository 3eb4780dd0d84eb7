//! NEON with `sdot`, which adds four products of signed bytes to each lane.
//!
//! One of its forms takes the bytes of one lane of a vector for all lanes. So four k-steps of a row are one load,
//! without broadcasts.

use super::vector::{self, Codes, Ints};
use crate::isa::{Isa, Line};
use core::arch::aarch64::*;
use core::arch::asm;

instruction_set! {
    /// NEON and the dot product.
    NeonDotprod: "neon", "dotprod"
}

/// K-steps whose values of a row are loaded together.
const TOGETHER: usize = 4;

/// Adds four products of signed bytes to each lane. In assembly, as is [`sdot_lane`]: Rust 1.89 has no stable
/// intrinsic for it.
#[target_feature(enable = "dotprod")]
#[inline]
fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction, of the feature that is enabled here, whose result depends on its inputs alone.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// [`sdot`] with the four bytes in lane `LANE` of `b` for all lanes.
#[target_feature(enable = "dotprod")]
#[inline]
fn sdot_lane<const LANE: usize>(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    const { assert!(LANE < 4) };
    // SAFETY: one instruction, of the feature that is enabled here, whose result depends on its inputs alone.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Four k-steps of each row, from k-step `4 * group` of a line on.
#[target_feature(enable = "neon")]
#[inline]
fn load_rows<const R: usize>(a: &[Line; R], group: usize) -> [int8x16_t; R] {
    let mut values = [vdupq_n_s8(0); R];
    for r in 0..R {
        values[r] = vreinterpretq_s8_u8(vector::load_16(&a[r].bytes().as_chunks().0[group]));
    }
    values
}

/// Adds k-step `LANE` of each row.
#[target_feature(enable = "dotprod")]
#[inline]
fn add_step<const LANE: usize, const R: usize>(
    sums: &mut [[Ints; 2]; R],
    values: &[int8x16_t; R],
    codes: [[int8x16_t; 2]; 2],
) {
    for r in 0..R {
        for v in 0..2 {
            for i in 0..2 {
                sums[r][v][i] = sdot_lane::<LANE>(sums[r][v][i], codes[v][i], values[r]);
            }
        }
    }
}

/// The codes of a k-step.
#[target_feature(enable = "neon")]
#[inline]
fn load_step(step: &[Codes; 2]) -> [[int8x16_t; 2]; 2] {
    [vector::load_codes(&step[0]), vector::load_codes(&step[1])]
}

/// [`Isa::accumulate`] for four k-steps.
#[target_feature(enable = "dotprod")]
#[inline]
fn add_group<const R: usize>(
    sums: &mut [[Ints; 2]; R],
    a: &[Line; R],
    group: usize,
    b: &[[Codes; 2]; TOGETHER],
) {
    let values = load_rows(a, group);
    add_step::<0, R>(sums, &values, load_step(&b[0]));
    add_step::<1, R>(sums, &values, load_step(&b[1]));
    add_step::<2, R>(sums, &values, load_step(&b[2]));
    add_step::<3, R>(sums, &values, load_step(&b[3]));
}

/// [`Isa::accumulate_packed`] for four k-steps.
#[target_feature(enable = "dotprod")]
#[inline]
fn add_packed_group<const R: usize>(
    sums: &mut [[Ints; 2]; R],
    a: &[Line; R],
    group: usize,
    b: &[[Codes; 2]; TOGETHER / 2],
) {
    let values = load_rows(a, group);
    let [left, right] = [vector::load_nibbles(&b[0][0]), vector::load_nibbles(&b[0][1])];
    add_step::<0, R>(sums, &values, [left[0], right[0]]);
    add_step::<1, R>(sums, &values, [left[1], right[1]]);
    let [left, right] = [vector::load_nibbles(&b[1][0]), vector::load_nibbles(&b[1][1])];
    add_step::<2, R>(sums, &values, [left[0], right[0]]);
    add_step::<3, R>(sums, &values, [left[1], right[1]]);
}

/// [`Isa::dot_signed`].
#[target_feature(enable = "dotprod")]
#[inline]
fn dot_signed(sums: Ints, q: Ints, k: Ints) -> Ints {
    let dot = |i: usize| sdot(sums[i], vreinterpretq_s8_s32(q[i]), vreinterpretq_s8_s32(k[i]));
    [dot(0), dot(1)]
}

/// [`Isa::dot_packed`].
#[target_feature(enable = "dotprod")]
#[inline]
fn dot_packed(mut sums: Ints, q: &[i32; 8], packed: &[Ints; 4]) -> Ints {
    let q = vector::load_ints(q).map(|q| vreinterpretq_s8_s32(q));
    let codes = |i: usize| {
        vector::split_nibbles(packed[i]).map(|half| half.map(|codes| vreinterpretq_s8_s32(codes)))
    };
    let codes = [codes(0), codes(1), codes(2), codes(3)];
    for i in 0..2 {
        sums[i] = sdot_lane::<0>(sums[i], codes[0][0][i], q[0]);
        sums[i] = sdot_lane::<1>(sums[i], codes[0][1][i], q[0]);
        sums[i] = sdot_lane::<2>(sums[i], codes[1][0][i], q[0]);
        sums[i] = sdot_lane::<3>(sums[i], codes[1][1][i], q[0]);
        sums[i] = sdot_lane::<0>(sums[i], codes[2][0][i], q[1]);
        sums[i] = sdot_lane::<1>(sums[i], codes[2][1][i], q[1]);
        sums[i] = sdot_lane::<2>(sums[i], codes[3][0][i], q[1]);
        sums[i] = sdot_lane::<3>(sums[i], codes[3][1][i], q[1]);
    }
    sums
}

impl Isa for NeonDotprod {
    neon_isa!();

    // 6 rows · 4 vectors = 24 sums, 6 vectors of values and 2 of codes: 32 registers.
    const MR: usize = 6;
    const GROUP: usize = TOGETHER;

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep],
    ) {
        let groups = first / TOGETHER..Line::STEPS / TOGETHER;
        for (group, b) in groups.zip(b.as_chunks().0) {
            // SAFETY: the function needs the dot product, which `self` proves.
            unsafe { add_group(sums, a, group, b) }
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
        let groups = first / TOGETHER..Line::STEPS / TOGETHER;
        for (group, b) in groups.zip(b.as_chunks().0) {
            // SAFETY: the function needs the dot product, which `self` proves.
            unsafe { add_packed_group(sums, a, group, b) }
        }
    }

    #[inline(always)]
    fn dot_signed(self, sums: Ints, q: Ints, k: Ints) -> Ints {
        // SAFETY: the function needs the dot product, which `self` proves.
        unsafe { dot_signed(sums, q, k) }
    }

    #[inline(always)]
    fn dot_unsigned(self, sums: Ints, q: Ints, u: Ints) -> Ints {
        self.dot_signed(sums, q, u)
    }

    #[inline(always)]
    fn dot_packed(self, sums: Ints, q: &[i32; 8], packed: &[Ints; 4]) -> Ints {
        // SAFETY: the function needs the dot product, which `self` proves.
        unsafe { dot_packed(sums, q, packed) }
    }
}
