//! Ranges, quantization and dequantization of slices (`docs/numerics.md`, rules 1 and 3).
//!
//! Each loop is written once, in plain Rust over arrays of [`LANES`] elements, and compiled once
//! per instruction set; the arrays are what makes the compiler use whole vectors. Heads and tails
//! go through the same expression per element, so no element depends on where it stands.

use super::dispatch::{Kernel, Operation};
use super::isa::Isa;
use crate::scheme::{NonFinite, round_code};

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

/// The parameters of rule 3, in the form the loops want.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) zero_point: i32,
    pub(super) qmin: i32,
    pub(super) qmax: i32,
}

impl Affine {
    /// `clamp(rne(x / s) + z, qmin, qmax)`; a NaN gives `qmax`.
    #[inline(always)]
    pub(super) fn code(self, value: f32) -> i8 {
        let code = round_code(value / self.scale) + self.zero_point;
        let code = if code > self.qmin { code } else { self.qmin };
        let code = if code < self.qmax { code } else { self.qmax };
        code as i8
    }

    /// `f32(q - z) * s`.
    #[inline(always)]
    pub(super) fn value(self, code: i8) -> f32 {
        (i32::from(code) - self.zero_point) as f32 * self.scale
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
        let affine = Affine { scale, zero_point, qmin, qmax };
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
        let affine = Affine { scale, zero_point, qmin: -128, qmax: 127 };
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
        let mut lo = [f32::INFINITY; RANGE_LANES];
        let mut hi = [f32::NEG_INFINITY; RANGE_LANES];
        let mut magnitude = [0u32; RANGE_LANES];
        let (steps, tail) = self.values.as_chunks::<RANGE_LANES>();
        for step in steps {
            for i in 0..RANGE_LANES {
                lo[i] = least(step[i], lo[i]);
                hi[i] = greatest(step[i], hi[i]);
                magnitude[i] = magnitude[i].max(step[i].to_bits() & 0x7fff_ffff);
            }
        }
        for (i, &value) in tail.iter().enumerate() {
            lo[i] = least(value, lo[i]);
            hi[i] = greatest(value, hi[i]);
            magnitude[i] = magnitude[i].max(value.to_bits() & 0x7fff_ffff);
        }
        // By halves, so that a row's end is a few vectors long and not a chain of all lanes.
        halve::<16>(&mut lo, &mut hi, &mut magnitude);
        halve::<8>(&mut lo, &mut hi, &mut magnitude);
        halve::<4>(&mut lo, &mut hi, &mut magnitude);
        halve::<2>(&mut lo, &mut hi, &mut magnitude);
        halve::<1>(&mut lo, &mut hi, &mut magnitude);
        (lo[0], hi[0], magnitude[0])
    }
}

/// Folds lanes onto the first `HALF`.
#[inline(always)]
fn halve<const HALF: usize>(
    lo: &mut [f32; RANGE_LANES],
    hi: &mut [f32; RANGE_LANES],
    magnitude: &mut [u32; RANGE_LANES],
) {
    for i in 0..HALF {
        lo[i] = least(lo[i + HALF], lo[i]);
        hi[i] = greatest(hi[i + HALF], hi[i]);
        magnitude[i] = magnitude[i].max(magnitude[i + HALF]);
    }
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
            for i in 0..LANES {
                out[i] = self.affine.code(step[i]);
            }
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
