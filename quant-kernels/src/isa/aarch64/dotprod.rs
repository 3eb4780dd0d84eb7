//! NEON with `sdot`, which adds four products of signed bytes to each lane.
//!
//! One of its forms takes the bytes of one lane of a vector for all lanes. So four k-steps of a row are one load,
//! without broadcasts.

use super::five_rows::{FIVE, STEPS, add_five_packed_rows, add_five_rows};
use super::vector::{self, Ints};
use crate::isa::{Isa, Line};
use core::arch::aarch64::*;
use core::arch::asm;

instruction_set! {
    /// NEON and the dot product.
    NeonDotprod: "neon", "dotprod"
}

/// The codes of a k-step in memory, and in registers.
type KStep = <NeonDotprod as Isa>::KStep;
type Step = [[int8x16_t; 2]; 2];

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

impl NeonDotprod {
    /// The codes of a k-step.
    #[inline(always)]
    fn load_step(self, step: &KStep) -> Step {
        // SAFETY: the function needs NEON, which `self` proves; so below.
        let left = unsafe { vector::load_codes(&step[0]) };
        // SAFETY: as above.
        let right = unsafe { vector::load_codes(&step[1]) };
        [left, right]
    }

    /// The codes of two packed k-steps.
    #[inline(always)]
    fn load_packed_steps(self, step: &KStep) -> [Step; 2] {
        // SAFETY: the function needs NEON, which `self` proves; so below.
        let left = unsafe { vector::load_nibbles(&step[0]) };
        // SAFETY: as above.
        let right = unsafe { vector::load_nibbles(&step[1]) };
        [[left[0], right[0]], [left[1], right[1]]]
    }

    /// Adds four k-steps of each row.
    #[inline(always)]
    fn add_group<const R: usize>(
        self,
        sums: &mut [[Ints; 2]; R],
        a: &[Line; R],
        group: usize,
        b: &[KStep; TOGETHER],
    ) {
        // SAFETY: the function needs NEON, which `self` proves.
        let values = unsafe { vector::load_rows(a, group) };
        self.add_step::<0, R>(sums, &values, self.load_step(&b[0]));
        self.add_step::<1, R>(sums, &values, self.load_step(&b[1]));
        self.add_step::<2, R>(sums, &values, self.load_step(&b[2]));
        self.add_step::<3, R>(sums, &values, self.load_step(&b[3]));
    }

    /// [`NeonDotprod::add_group`] for packed k-steps.
    #[inline(always)]
    fn add_packed_group<const R: usize>(
        self,
        sums: &mut [[Ints; 2]; R],
        a: &[Line; R],
        group: usize,
        b: &[KStep; TOGETHER / 2],
    ) {
        // SAFETY: the function needs NEON, which `self` proves.
        let values = unsafe { vector::load_rows(a, group) };
        let [low, high] = self.load_packed_steps(&b[0]);
        self.add_step::<0, R>(sums, &values, low);
        self.add_step::<1, R>(sums, &values, high);
        let [low, high] = self.load_packed_steps(&b[1]);
        self.add_step::<2, R>(sums, &values, low);
        self.add_step::<3, R>(sums, &values, high);
    }

    /// Adds k-step `LANE` of each row.
    #[inline(always)]
    fn add_step<const LANE: usize, const R: usize>(
        self,
        sums: &mut [[Ints; 2]; R],
        values: &[int8x16_t; R],
        codes: Step,
    ) {
        for r in 0..R {
            for v in 0..2 {
                for i in 0..2 {
                    let sum = &mut sums[r][v][i];
                    // SAFETY: the function needs the dot product, which `self` proves.
                    *sum = unsafe { sdot_lane::<LANE>(*sum, codes[v][i], values[r]) };
                }
            }
        }
    }
}

impl Isa for NeonDotprod {
    neon_isa!();

    // 5 rows · 4 vectors = 20 sums, 5 vectors of values and 6 or 7 of codes: 32 registers.
    const MR: usize = 5;
    const GROUP: usize = TOGETHER;

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep],
    ) {
        let (mut group, mut rest) = (first / TOGETHER, b);
        if let (Some(sums), Some(a)) = (sums.first_chunk_mut::<FIVE>(), a.first_chunk()) {
            while let Some((steps, others)) = rest.split_first_chunk() {
                // SAFETY: the function needs the dot product, which `self` proves.
                unsafe { add_five_rows(sums, a, group * TOGETHER / STEPS, steps) }
                (group, rest) = (group + STEPS / TOGETHER, others);
            }
            if rest.is_empty() {
                return;
            }
        }
        for (group, b) in (group..Line::STEPS / TOGETHER).zip(rest.as_chunks().0) {
            self.add_group(sums, a, group, b);
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
        let (mut group, mut rest) = (first / TOGETHER, b);
        if let (Some(sums), Some(a)) = (sums.first_chunk_mut::<FIVE>(), a.first_chunk()) {
            while let Some((steps, others)) = rest.split_first_chunk() {
                // SAFETY: the function needs the dot product, which `self` proves.
                unsafe { add_five_packed_rows(sums, a, group * TOGETHER / STEPS, steps) }
                (group, rest) = (group + STEPS / TOGETHER, others);
            }
            // There are whole halves of lines.
            return;
        }
        for (group, b) in (group..Line::STEPS / TOGETHER).zip(rest.as_chunks().0) {
            self.add_packed_group(sums, a, group, b);
        }
    }

    #[inline(always)]
    fn dot_signed(self, sums: Ints, q: Ints, k: Ints) -> Ints {
        // SAFETY: the function needs the dot product, which `self` proves.
        unsafe { dot_signed(sums, q, k) }
    }

    #[inline(always)]
    fn dot_packed(self, sums: Ints, q: &[i32; 8], packed: &[Ints; 4]) -> Ints {
        // SAFETY: the function needs the dot product, which `self` proves.
        unsafe { dot_packed(sums, q, packed) }
    }
}
