//! Ranges, quantization and dequantization of slices (`docs/numerics.md`, rules 1 and 3).
//!
//! Each loop is written once, in plain Rust over arrays of [`LANES`] elements, and compiled once
//! per instruction set; the arrays are what makes the compiler use whole vectors. Heads and tails
//! go through the same expression per element, so no element depends on where it stands.

use super::dispatch::{Kernel, Operation};
use super::isa::Isa;
use super::lanes::WIDEST;
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
    /// What vectors are quantized with.
    pub(super) approximate: Approximate,
}

/// Rule 3 by a product instead of a quotient, for codes plus 128.
#[derive(Clone, Copy, Debug)]
pub(super) struct Approximate {
    /// `1 / scale`, rounded.
    pub(super) inverse: f32,
    /// The distance from an integer at which `value * inverse` may be rounded to another one than
    /// `value / scale`.
    pub(super) doubtful: f32,
    pub(super) zero_point: i16,
    pub(super) range: (u8, u8),
}

/// Values that are quantized together.
pub(super) const TOGETHER: usize = 32;

impl Affine {
    /// For a zero point and codes of 8 bits.
    #[inline(always)]
    pub(super) fn new(scale: f32, zero_point: i32, qmin: i32, qmax: i32) -> Self {
        let range = ((qmin - zero_point) as f32, (qmax - zero_point) as f32);
        let inverse = 1.0 / scale;
        // Where the inverse has lost bits, every distance is doubtful.
        let doubtful = if inverse.is_normal() { DOUBTFUL } else { 0.0 };
        let approximate = Approximate {
            inverse,
            doubtful,
            zero_point: zero_point as i16 + 128,
            range: ((qmin + 128) as u8, (qmax + 128) as u8),
        };
        Self { scale, zero_point, range, approximate }
    }

    /// `clamp(rne(x / s) + z, qmin, qmax)`; a NaN gives `qmax`.
    #[inline(always)]
    pub(super) fn code(self, value: f32) -> i8 {
        let (lo, hi) = self.range;
        let quotient = value / self.scale;
        // The order and the spelling say what becomes of NaN, in one instruction each.
        let quotient = if quotient < hi { quotient } else { hi };
        let quotient = if quotient > lo { quotient } else { lo };
        (rounded_code(quotient + ROUNDING) + self.zero_point) as i8
    }

    /// [`Affine::code`] of each value, mostly without a division, which takes longer than the rest.
    ///
    /// The inverse and the product are each rounded once, as the quotient is: for `|x / s| ≤ 512`
    /// the product is at most `512 · 3 · 2^-24 < 2^-13` away from the quotient. Both are rounded to
    /// the same integer unless a tie is as near as that, as it is for one value in 4096; then the
    /// values are divided after all. What is farther away is clamped, whatever it is rounded to.
    #[inline(always)]
    pub(super) fn codes<T: Code, const N: usize>(
        self,
        isa: impl Isa,
        values: &[f32; N],
        codes: &mut [T; N],
    ) {
        let (pieces, rest) = values.as_chunks::<TOGETHER>();
        let (outs, out_rest) = codes.as_chunks_mut::<TOGETHER>();
        for (values, out) in pieces.iter().zip(outs) {
            self.piece(isa, values, out);
        }
        if !rest.is_empty() {
            let (mut piece, mut out) = ([0.0; TOGETHER], [T::of(0); TOGETHER]);
            piece[..rest.len()].copy_from_slice(rest);
            self.piece(isa, &piece, &mut out);
            out_rest.copy_from_slice(&out[..rest.len()]);
        }
    }

    #[inline(always)]
    fn piece<T: Code>(self, isa: impl Isa, values: &[f32; TOGETHER], out: &mut [T; TOGETHER]) {
        let mut codes = [0; TOGETHER];
        if isa.quantize(self.approximate, values, &mut codes) {
            for i in 0..TOGETHER {
                out[i] = T::of(self.code(values[i]) as u8 ^ 0x80);
            }
            return;
        }
        for i in 0..TOGETHER {
            out[i] = T::of(codes[i]);
        }
    }

    /// `f32(q - z) * s`.
    #[inline(always)]
    pub(super) fn value(self, code: i8) -> f32 {
        (i32::from(code) - self.zero_point) as f32 * self.scale
    }
}

impl Approximate {
    /// [`Isa::quantize`] in plain Rust.
    #[inline(always)]
    pub(super) fn quantize(self, values: &[f32; TOGETHER], codes: &mut [u8; TOGETHER]) -> bool {
        let zero = f32::from(self.zero_point);
        let (lo, hi) = (f32::from(self.range.0) - zero, f32::from(self.range.1) - zero);
        let mut doubtful = false;
        for i in 0..TOGETHER {
            let quotient = values[i] * self.inverse;
            let quotient = if quotient < hi { quotient } else { hi };
            let quotient = if quotient > lo { quotient } else { lo };
            let sum = quotient + ROUNDING;
            // Both differences are exact: the nearest integer, and how far it is.
            let distance = quotient - (sum - ROUNDING);
            doubtful |= distance.abs() >= self.doubtful;
            codes[i] = (rounded_code(sum) + i32::from(self.zero_point)) as u8;
        }
        doubtful
    }
}

/// What a code is stored as.
pub(super) trait Code: Copy {
    /// Of a code plus 128.
    fn of(code: u8) -> Self;
}

impl Code for i8 {
    #[inline(always)]
    fn of(code: u8) -> Self {
        (code ^ 0x80) as Self
    }
}

impl Code for u8 {
    #[inline(always)]
    fn of(code: u8) -> Self {
        code
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

/// The ends of rule 1, as bits: two numbers per element, where [`Range`] needs three.
///
/// As signed integers, floats that are not negative are in their own order, and more than all others;
/// as unsigned ones, negative floats are more than all others, and the least one is the largest. In
/// both, infinities are beyond what is finite and NaN beyond infinities.
pub(super) struct Ends<'a> {
    pub(super) values: &'a [f32],
}

/// A range that includes 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    hi: i32,
    lo: u32,
}

const SIGN: u32 = 1 << 31;

impl Bits {
    /// Whether there are only finite values.
    pub(super) fn finite(self) -> bool {
        self.hi < INFINITY_BITS as i32 && self.lo < INFINITY_BITS | SIGN
    }

    /// Whether there is a NaN.
    pub(super) fn nan(self) -> bool {
        self.hi > INFINITY_BITS as i32 || self.lo > INFINITY_BITS | SIGN
    }

    /// Both ends; a zero is `+0.0`.
    pub(super) fn range(self) -> (f32, f32) {
        (f32::from_bits(self.lo) + 0.0, f32::from_bits(self.hi as u32))
    }
}

impl Operation for Ends<'_> {
    type Output = Bits;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Bits {
        // Two chains, because a maximum has to wait for the one before it.
        let mut ends = [(isa.zero(), isa.splat_sum(SIGN as i32)); 2];
        let mut steps = self.values.chunks_exact(2 * I::LANES);
        for step in &mut steps {
            for v in 0..2 {
                let bits = isa.bits(&step[v * I::LANES..(v + 1) * I::LANES]);
                ends[v] = (isa.max(ends[v].0, bits), isa.max_unsigned(ends[v].1, bits));
            }
        }
        let (mut hi, mut lo) = ([0; WIDEST], [0; WIDEST]);
        isa.store_sums(isa.max(ends[0].0, ends[1].0), &mut hi[..I::LANES]);
        isa.store_sums(isa.max_unsigned(ends[0].1, ends[1].1), &mut lo[..I::LANES]);
        let mut all = Bits { hi: 0, lo: SIGN };
        for i in 0..I::LANES {
            all = Bits { hi: all.hi.max(hi[i]), lo: all.lo.max(lo[i] as u32) };
        }
        for value in steps.remainder() {
            let bits = value.to_bits();
            all = Bits { hi: all.hi.max(bits as i32), lo: all.lo.max(bits) };
        }
        all
    }
}

/// The range of each lane, and its largest magnitude.
type RangeOf<const N: usize> = ([f32; N], [f32; N], [u32; N]);

#[inline(always)]
fn widened(mut ends: RangeOf<RANGE_LANES>, step: &[f32; RANGE_LANES]) -> RangeOf<RANGE_LANES> {
    for i in 0..RANGE_LANES {
        ends.0[i] = least(step[i], ends.0[i]);
        ends.1[i] = greatest(step[i], ends.1[i]);
        ends.2[i] = ends.2[i].max(step[i].to_bits() & 0x7fff_ffff);
    }
    ends
}

/// Folds lanes onto the first half of them.
#[inline(always)]
fn halved<const N: usize, const HALF: usize>((lo, hi, magnitude): RangeOf<N>) -> RangeOf<HALF> {
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
    fn run<I: Isa>(self, isa: I) {
        let (steps, tail) = self.values.as_chunks::<LANES>();
        let (outs, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (step, out) in steps.iter().zip(outs) {
            self.affine.codes(isa, step, out);
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
    use alloc::vec::Vec;

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
            let (qmin, qmax) = if bits & 1 == 0 { (-128, 127) } else { (-100, 90) };
            let mut values = near_ties(scale);
            values[..5].copy_from_slice(&[1e38, -1e38, f32::INFINITY, -f32::INFINITY, f32::NAN]);
            for kernel in Kernel::available() {
                let mut codes = [0; 64];
                kernel.quantize(&values, scale, zero_point, qmin, qmax, &mut codes);
                assert_quantized(&values, scale, (zero_point, qmin, qmax), &codes);
            }
        }
    }

    fn assert_quantized(
        values: &[f32; 64],
        scale: f32,
        (zero_point, qmin, qmax): (i32, i32, i32),
        codes: &[i8; 64],
    ) {
        for (value, code) in values.iter().zip(codes) {
            let exact = (value / scale).clamp(-600.0, 600.0).round_ties_even() as i32;
            let expected = if value.is_nan() { qmax } else { exact + zero_point };
            assert_eq!(i32::from(*code), expected.clamp(qmin, qmax), "{value:e} / {scale:e}");
        }
    }

    #[test]
    fn ends_are_those_of_rule_1_and_tell_infinities_from_nan() {
        let mut bits = 1u32;
        for len in 0..300 {
            let values: Vec<f32> = (0..len)
                .map(|_| {
                    bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let value = f32::from_bits(bits);
                    if value.is_finite() { value } else { 0.0 }
                })
                .collect();
            let expected = values.iter().fold((0f32, 0f32), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
            for kernel in Kernel::available() {
                let found = kernel.run(Ends { values: &values });
                assert!(found.finite() && !found.nan());
                assert_eq!(found.range(), expected);
                for (bad, nan) in [
                    (f32::INFINITY, false),
                    (-f32::INFINITY, false),
                    (f32::NAN, true),
                    (-f32::NAN, true),
                ] {
                    for at in 0..len.min(70) {
                        let mut values = values.clone();
                        values[at] = bad;
                        let found = kernel.run(Ends { values: &values });
                        assert_eq!((found.finite(), found.nan()), (false, nan));
                    }
                }
            }
        }
    }
}
