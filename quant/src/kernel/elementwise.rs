//! Ranges, quantization and dequantization of slices (`docs/numerics.md`, rules 1 and 3).
//!
//! Each loop is written once, in plain Rust over arrays of [`LANES`] elements, and compiled once
//! per instruction set; the arrays are what makes the compiler use whole vectors. Heads and tails
//! go through the same expression per element, so no element depends on where it stands.

use super::dispatch::{Kernel, Operation};
use super::isa::Isa;
use crate::scheme::{NonFinite, ROUNDING, rounded_code};

/// Elements per step: four vectors of AVX-512 or eight of AVX2, enough independent chains to hide
/// the latency of a division or a comparison.
const LANES: usize = 64;

/// The same for a range, which keeps three numbers per element: 12 of AVX2's 16 registers.
const RANGE_LANES: usize = 32;

/// Elements after which a range checks for non-finite values: the price of finding the first one
/// is then bounded by one look at a piece that lies in the first-level cache (4096 · 4 B = 16 KiB).
const PIECE: usize = 4096;

/// Every finite value has a smaller magnitude than this, seen as bits.
pub(super) const INFINITY_BITS: u32 = 0x7f80_0000;

/// As far from an integer as a product may be that is rounded as the quotient is.
const DOUBTFUL: f32 = 0.5 - 1.0 / 8192.0;

/// The parameters of rule 3, in the form the loops want.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    scale: f32,
    zero_point: i32,
    /// `qmin - z` and `qmax - z`: clamping to these before `z` is added is the same, and so is
    /// clamping before rounding, since they are integers.
    range: (f32, f32),
    /// `1 / scale`, rounded.
    inverse: f32,
    /// The distance from an integer at which `value * inverse` may be rounded to another one than
    /// `value / scale`.
    doubtful: f32,
}

impl Affine {
    /// For a zero point and codes within ±255.
    #[inline(always)]
    pub(super) fn new(scale: f32, zero_point: i32, qmin: i32, qmax: i32) -> Self {
        let range = ((qmin - zero_point) as f32, (qmax - zero_point) as f32);
        let inverse = 1.0 / scale;
        // Where the inverse has lost bits, every distance is doubtful.
        let doubtful = if inverse.is_normal() { DOUBTFUL } else { 0.0 };
        Self { scale, zero_point, range, inverse, doubtful }
    }

    /// `clamp(rne(x / s) + z, qmin, qmax)`; a NaN gives `qmax`.
    #[inline(always)]
    pub(super) fn code(self, value: f32) -> i8 {
        self.rounded(self.clamped(value / self.scale) + ROUNDING) as i8
    }

    /// [`Affine::code`] of each value, mostly without a division, which takes longer than the rest.
    ///
    /// The inverse and the product are each rounded once, as the quotient is: for `|x / s| ≤ 512`
    /// the product is at most `512 · 3 · 2^-24 < 2^-13` away from the quotient. Both are rounded to
    /// the same integer unless a tie is as near as that, as it is for one value in 4096; then the
    /// values are divided after all. What is clamped is an integer.
    #[inline(always)]
    pub(super) fn codes<T: Code, const N: usize>(self, values: &[f32; N], codes: &mut [T; N]) {
        let mut doubtful = false;
        for i in 0..N {
            let quotient = self.clamped(values[i] * self.inverse);
            let sum = quotient + ROUNDING;
            // Both differences are exact: the nearest integer, and how far it is.
            let distance = quotient - (sum - ROUNDING);
            doubtful |= distance.abs() >= self.doubtful;
            codes[i] = T::of(self.rounded(sum));
        }
        if doubtful {
            for i in 0..N {
                codes[i] = T::of(self.rounded(self.clamped(values[i] / self.scale) + ROUNDING));
            }
        }
    }

    #[inline(always)]
    fn clamped(self, quotient: f32) -> f32 {
        let (lo, hi) = self.range;
        // The order and the spelling say what becomes of NaN, in one instruction each.
        let quotient = if quotient < hi { quotient } else { hi };
        if quotient > lo { quotient } else { lo }
    }

    /// The code in a sum with [`ROUNDING`].
    #[inline(always)]
    fn rounded(self, sum: f32) -> i32 {
        rounded_code(sum) + self.zero_point
    }

    /// `f32(q - z) * s`.
    #[inline(always)]
    pub(super) fn value(self, code: i8) -> f32 {
        (i32::from(code) - self.zero_point) as f32 * self.scale
    }
}

/// What a code is stored as: `i8`, or plus 128 as `u8`.
pub(super) trait Code: Copy {
    /// The low byte.
    fn of(code: i32) -> Self;
}

impl Code for i8 {
    #[inline(always)]
    fn of(code: i32) -> Self {
        code as Self
    }
}

impl Code for u8 {
    #[inline(always)]
    fn of(code: i32) -> Self {
        code as Self
    }
}

impl Kernel {
    /// The smallest and the largest value.
    ///
    /// A zero is reported as `+0.0`. An empty slice gives `(+∞, -∞)`, what a fold over nothing
    /// gives.
    ///
    /// # Errors
    /// A value is NaN or infinite: the first such element.
    pub fn min_max(self, values: &[f32]) -> Result<(f32, f32), NonFinite> {
        let mut range = (f32::INFINITY, f32::NEG_INFINITY);
        for (i, piece) in values.chunks(PIECE).enumerate() {
            let (lo, hi, magnitude) = self.run(Range { values: piece });
            if magnitude >= INFINITY_BITS {
                return Err(first_non_finite(piece, i * PIECE));
            }
            range = (least(lo, range.0), greatest(hi, range.1));
        }
        // Which of two zeros a minimum returns depends on the order; adding +0.0 leaves one.
        Ok((range.0 + 0.0, range.1 + 0.0))
    }

    /// The index of the first NaN, if there is one; infinities pass.
    pub fn first_nan(self, values: &[f32]) -> Option<usize> {
        values.chunks(PIECE).enumerate().find_map(|(i, piece)| {
            let (_, _, magnitude) = self.run(Range { values: piece });
            let found = (magnitude > INFINITY_BITS)
                .then(|| piece.iter().position(|value| value.is_nan()))
                .flatten();
            found.map(|at| i * PIECE + at)
        })
    }

    /// Writes `clamp(rne(values / scale) + zero_point, qmin, qmax)`, with a true division and ties
    /// rounded to even.
    ///
    /// Infinities saturate. A NaN is given `qmax`, on every kernel; whoever must refuse it asks
    /// [`Kernel::min_max`] or [`Kernel::first_nan`] first.
    ///
    /// # Panics
    /// - `values` and `out` differ in length.
    /// - `qmin ..= qmax` or `zero_point` is not within `-128 ..= 127`.
    pub fn quantize(
        self,
        values: &[f32],
        scale: f32,
        zero_point: i32,
        qmin: i32,
        qmax: i32,
        out: &mut [i8],
    ) {
        assert_eq!(values.len(), out.len(), "one code for each value");
        assert_codes(zero_point, qmin, qmax);
        let affine = Affine::new(scale, zero_point, qmin, qmax);
        self.run(Quantize { values, affine, out });
    }

    /// Writes `f32(codes - zero_point) * scale`.
    ///
    /// # Panics
    /// - `codes` and `out` differ in length.
    /// - `zero_point` is not within `-128 ..= 127`.
    pub fn dequantize(self, codes: &[i8], scale: f32, zero_point: i32, out: &mut [f32]) {
        assert_eq!(codes.len(), out.len(), "one value for each code");
        assert_codes(zero_point, -128, 127);
        let affine = Affine::new(scale, zero_point, -128, 127);
        self.run(Dequantize { codes, affine, out });
    }
}

/// What the loops rely on to stay exact: see [`Affine::code`].
pub(super) fn assert_codes(zero_point: i32, qmin: i32, qmax: i32) {
    let codes = -128..=127;
    assert!(
        codes.contains(&zero_point) && codes.contains(&qmin) && codes.contains(&qmax),
        "codes and zero points are 8-bit"
    );
    assert!(qmin <= qmax, "the range of codes is empty");
}

#[cold]
fn first_non_finite(piece: &[f32], start: usize) -> NonFinite {
    let at = piece.iter().position(|value| !value.is_finite()).unwrap_or(0);
    NonFinite { index: start + at, value: piece[at] }
}

// The comparisons are spelled so that each is one instruction on every CPU (`f32::min` promises
// more about NaN than that instruction gives).
#[inline(always)]
fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn greatest(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Minimum, maximum, and the largest magnitude as bits: at least [`INFINITY_BITS`] if a value is
/// not finite, more than that if one is NaN. (The range is then meaningless.)
pub(super) struct Range<'a> {
    pub(super) values: &'a [f32],
}

impl Operation for Range<'_> {
    type Output = (f32, f32, u32);

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> Self::Output {
        let mut ends =
            ([f32::INFINITY; RANGE_LANES], [f32::NEG_INFINITY; RANGE_LANES], [0; RANGE_LANES]);
        let (steps, tail) = self.values.as_chunks::<RANGE_LANES>();
        for step in steps {
            ends = widened(ends, step);
        }
        // An element more than once changes nothing. (A lane that is found by a number would keep
        // all of them in memory.)
        if let Some(first) = tail.first() {
            let mut step = [*first; RANGE_LANES];
            step[..tail.len()].copy_from_slice(tail);
            ends = widened(ends, &step);
        }
        // By halves, so that a row's end is a few vectors long and not a chain of all lanes.
        let ends = halved::<32, 16>(ends);
        let ends = halved::<16, 8>(ends);
        let ends = halved::<8, 4>(ends);
        let ends = halved::<4, 2>(ends);
        let ends = halved::<2, 1>(ends);
        (ends.0[0], ends.1[0], ends.2[0])
    }
}

/// The range of each lane, and its largest magnitude.
type Ends<const N: usize> = ([f32; N], [f32; N], [u32; N]);

#[inline(always)]
fn widened(mut ends: Ends<RANGE_LANES>, step: &[f32; RANGE_LANES]) -> Ends<RANGE_LANES> {
    for i in 0..RANGE_LANES {
        ends.0[i] = least(step[i], ends.0[i]);
        ends.1[i] = greatest(step[i], ends.1[i]);
        ends.2[i] = ends.2[i].max(step[i].to_bits() & 0x7fff_ffff);
    }
    ends
}

/// Folds lanes onto the first half of them.
#[inline(always)]
fn halved<const N: usize, const HALF: usize>((lo, hi, magnitude): Ends<N>) -> Ends<HALF> {
    let mut ends = ([0.0; HALF], [0.0; HALF], [0; HALF]);
    for i in 0..HALF {
        ends.0[i] = least(lo[i + HALF], lo[i]);
        ends.1[i] = greatest(hi[i + HALF], hi[i]);
        ends.2[i] = magnitude[i].max(magnitude[i + HALF]);
    }
    ends
}

struct Quantize<'a> {
    values: &'a [f32],
    affine: Affine,
    out: &'a mut [i8],
}

impl Operation for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (steps, tail) = self.values.as_chunks::<LANES>();
        let (outs, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (step, out) in steps.iter().zip(outs) {
            self.affine.codes(step, out);
        }
        for (value, out) in tail.iter().zip(out_tail) {
            *out = self.affine.code(*value);
        }
    }
}

struct Dequantize<'a> {
    codes: &'a [i8],
    affine: Affine,
    out: &'a mut [f32],
}

impl Operation for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (steps, tail) = self.codes.as_chunks::<LANES>();
        let (outs, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (step, out) in steps.iter().zip(outs) {
            for i in 0..LANES {
                out[i] = self.affine.value(step[i]);
            }
        }
        for (code, out) in tail.iter().zip(out_tail) {
            *out = self.affine.value(*code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ties and their neighbours, for a scale: where a product and a quotient may differ.
    fn near_ties(scale: f32) -> [f32; 64] {
        core::array::from_fn(|i| {
            let tie = (i as i32 / 3 * 27 - 280) as f32 + 0.5;
            let value = tie * scale;
            f32::from_bits(value.to_bits().wrapping_add(i as u32 % 3).wrapping_sub(1))
        })
    }

    #[test]
    fn codes_are_those_of_a_division_for_every_scale() {
        let mut bits = 1u32;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Every positive scale, subnormal ones included.
            let scale = f32::from_bits((bits >> 1) % INFINITY_BITS).max(f32::MIN_POSITIVE * 1e-6);
            let zero_point = (bits >> 3 & 0xff) as i32 - 128;
            let affine = Affine::new(scale, zero_point, -128, 127);
            let values = near_ties(scale);
            let mut codes = [0i8; 64];
            affine.codes(&values, &mut codes);
            for (value, code) in values.iter().zip(codes) {
                let exact = (value / scale).clamp(-600.0, 600.0).round_ties_even() as i32;
                let expected = if value.is_nan() { 127 } else { exact + zero_point };
                assert_eq!(i32::from(code), expected.clamp(-128, 127), "{value:e} / {scale:e}");
            }
        }
    }
}
