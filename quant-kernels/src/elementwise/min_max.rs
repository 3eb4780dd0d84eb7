//! The range of a slice, and its first non-finite value (`docs/numerics.md`, rule 1).

use crate::dispatch::Kernel;
use crate::isa::lanes::WIDEST;
use crate::isa::{Isa, Operation};
use crate::scheme::NonFinite;

/// Elements per iteration: three numbers each, 12 of the 16 registers of AVX2.
const RANGE_LANES: usize = 32;

/// Elements after which non-finite values are checked for: the first one is then found by one pass over a
/// piece that lies in the first-level cache (4096 · 4 B = 16 KiB).
const PIECE: usize = 4096;

/// The bits of infinity: more than those of the magnitude of any finite value.
pub(crate) const INFINITY_BITS: u32 = 0x7f80_0000;

impl Kernel {
    /// The minimum and the maximum.
    ///
    /// A zero is reported as `+0.0`. The result for an empty slice is `(+∞, -∞)`.
    ///
    /// # Errors
    /// The first value that is NaN or infinite.
    // Groups can be short: an out-of-line call costs as much as their loop.
    #[inline]
    pub fn min_max(self, values: &[f32]) -> Result<(f32, f32), NonFinite> {
        let mut range = (f32::INFINITY, f32::NEG_INFINITY);
        for (i, piece) in values.chunks(PIECE).enumerate() {
            let (lo, hi, magnitude) = self.run(MinMax { values: piece });
            if magnitude >= INFINITY_BITS {
                return Err(first_non_finite(piece, i * PIECE));
            }
            range = (least(lo, range.0), greatest(hi, range.1));
        }
        // Which of two zeros a minimum returns depends on the order; adding +0.0 gives one of them.
        Ok((range.0 + 0.0, range.1 + 0.0))
    }

    /// The index of the first NaN, if there is one; infinities pass.
    pub fn first_nan(self, values: &[f32]) -> Option<usize> {
        values.chunks(PIECE).enumerate().find_map(|(i, piece)| {
            let (_, _, magnitude) = self.run(MinMax { values: piece });
            let found = (magnitude > INFINITY_BITS)
                .then(|| piece.iter().position(|value| value.is_nan()))
                .flatten();
            found.map(|at| i * PIECE + at)
        })
    }
}

#[cold]
fn first_non_finite(piece: &[f32], start: usize) -> NonFinite {
    let at = piece.iter().position(|value| !value.is_finite()).unwrap_or(0);
    NonFinite { index: start + at, value: piece[at] }
}

// The comparisons are written so that each is one instruction on every CPU; `f32::min` promises more about
// NaN than that instruction gives.
#[inline(always)]
fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn greatest(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The minimum, the maximum, and the bits of the largest magnitude: at least [`INFINITY_BITS`] if a value is
/// not finite, and more if one is NaN. In both cases the first two are meaningless.
pub(crate) struct MinMax<'a> {
    pub(crate) values: &'a [f32],
}

impl Operation for MinMax<'_> {
    type Output = (f32, f32, u32);

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> Self::Output {
        let mut ends =
            ([f32::INFINITY; RANGE_LANES], [f32::NEG_INFINITY; RANGE_LANES], [0; RANGE_LANES]);
        let (steps, tail) = self.values.as_chunks::<RANGE_LANES>();
        for step in steps {
            ends = widened(ends, step);
        }
        // Repeating an element changes nothing. (Indexing a lane at run time would keep all lanes in memory.)
        if let Some(first) = tail.first() {
            let mut step = [*first; RANGE_LANES];
            step[..tail.len()].copy_from_slice(tail);
            ends = widened(ends, &step);
        }
        // By halves, which is a few vector operations instead of a chain over all lanes.
        let ends = halved::<32, 16>(ends);
        let ends = halved::<16, 8>(ends);
        let ends = halved::<8, 4>(ends);
        let ends = halved::<4, 2>(ends);
        let ends = halved::<2, 1>(ends);
        (ends.0[0], ends.1[0], ends.2[0])
    }
}

/// The range of rule 1, by integer comparisons of bits: two numbers per element, where [`MinMax`] needs
/// three.
///
/// As signed integers, floats that are not negative keep their order and exceed all others; as unsigned
/// integers, negative floats exceed all others, and the smallest one is the largest. In both orders,
/// infinities lie beyond finite values, and NaN beyond infinities.
pub(crate) struct FindRange<'a> {
    pub(crate) values: &'a [f32],
}

/// A range that includes 0, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RangeBits {
    hi: i32,
    lo: u32,
}

const SIGN: u32 = 1 << 31;

impl RangeBits {
    /// Whether all values are finite.
    pub(crate) fn finite(self) -> bool {
        self.hi < INFINITY_BITS as i32 && self.lo < INFINITY_BITS | SIGN
    }

    /// Whether a value is NaN.
    pub(crate) fn nan(self) -> bool {
        self.hi > INFINITY_BITS as i32 || self.lo > INFINITY_BITS | SIGN
    }

    /// The minimum and the maximum; a zero is `+0.0`.
    pub(crate) fn range(self) -> (f32, f32) {
        (f32::from_bits(self.lo) + 0.0, f32::from_bits(self.hi as u32))
    }
}

impl Operation for FindRange<'_> {
    type Output = RangeBits;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> RangeBits {
        // Two chains, to hide the latency of a maximum.
        let mut ends = [(isa.zero(), isa.splat_int(SIGN as i32)); 2];
        let mut steps = self.values.chunks_exact(2 * I::LANES);
        for step in &mut steps {
            for v in 0..2 {
                let bits = isa.bits(&step[v * I::LANES..(v + 1) * I::LANES]);
                ends[v] = (isa.max(ends[v].0, bits), isa.max_unsigned(ends[v].1, bits));
            }
        }
        let (mut hi, mut lo) = ([0; WIDEST], [0; WIDEST]);
        isa.store_ints(isa.max(ends[0].0, ends[1].0), &mut hi[..I::LANES]);
        isa.store_ints(isa.max_unsigned(ends[0].1, ends[1].1), &mut lo[..I::LANES]);
        let mut all = RangeBits { hi: 0, lo: SIGN };
        for i in 0..I::LANES {
            all = RangeBits { hi: all.hi.max(hi[i]), lo: all.lo.max(lo[i] as u32) };
        }
        for value in steps.remainder() {
            let bits = value.to_bits();
            all = RangeBits { hi: all.hi.max(bits as i32), lo: all.lo.max(bits) };
        }
        all
    }
}

/// The minimum, the maximum and the largest magnitude of each lane.
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

/// Folds the second half of the lanes onto the first.
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

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
                let found = kernel.run(FindRange { values: &values });
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
                        let found = kernel.run(FindRange { values: &values });
                        assert_eq!((found.finite(), found.nan()), (false, nan));
                    }
                }
            }
        }
    }
}
