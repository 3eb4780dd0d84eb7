//! Exact counts in bins whose width is a power of two.
//!
//! Bins begin at multiples of their width. The width is the smallest power of two with which
//! [`MAX_BINS`] bins hold every value seen, and zero. When the range outgrows the bins, the width
//! doubles and neighbouring bins are added up. A histogram therefore depends on the values alone,
//! not on their order, the batches, the threads or the machine, and merging two is exact.

use alloc::vec::Vec;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::Observer;
use crate::kernel::Kernel;
use crate::scheme::{NonFinite, Range};

/// The most bins a histogram has: 128 KiB of counts.
pub(super) const MAX_BINS: usize = 1 << 14;

/// The exponent of the smallest f32: no bin is narrower.
const MIN_EXPONENT: i32 = -149;

/// Counts of the values seen, in bins whose width is a power of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "RawHistogram", into = "RawHistogram"))]
pub struct Histogram {
    /// The width of a bin is `2^exponent`.
    exponent: i32,
    /// The first bin begins at `first · 2^exponent`.
    first: i64,
    counts: Vec<u64>,
    /// The least and the greatest value as bits, so that equality is exact.
    seen: Option<(u32, u32)>,
}

/// The values counted in one bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The start of the bin, inclusive.
    pub start: f64,
    /// The end of the bin, exclusive: the start of the next.
    pub end: f64,
    /// The number of values `x` with `start <= x < end`.
    pub count: u64,
}

impl Bin {
    /// The middle of the bin.
    pub fn center(self) -> f64 {
        (self.start + self.end) / 2.0
    }
}

impl Histogram {
    /// The bins from the lowest to the highest; their ends are exact.
    pub fn bins(&self) -> impl DoubleEndedIterator<Item = Bin> + ExactSizeIterator + '_ {
        let width = power_of_two(self.exponent);
        self.counts.iter().enumerate().map(move |(i, &count)| {
            let start = (self.first + i as i64) as f64 * width;
            Bin { start, end: start + width, count }
        })
    }

    /// The width of a bin.
    pub fn bin_width(&self) -> f64 {
        power_of_two(self.exponent)
    }

    /// The number of values seen. Counting ends at `u64::MAX`.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The number of values that can still be counted. The sum of all counts fits in 64 bits, so no
    /// sum of some of them overflows.
    fn room(&self) -> u64 {
        u64::MAX - self.count()
    }

    /// The range of the values seen, widened to hold zero; `None` if there were none.
    pub fn range(&self) -> Option<Range> {
        let (lo, hi) = self.seen?;
        Range::new(f32::from_bits(lo), f32::from_bits(hi))
    }

    /// The same counts in bins `2^doublings` times as wide.
    pub(super) fn coarser(&self, doublings: u32) -> Self {
        let exponent = self.exponent + doublings as i32;
        let mut coarse = Self { exponent, seen: self.seen, ..Self::default() };
        // Beyond 63 doublings there is one bin below zero and one above, as after 63.
        let doublings = doublings.min(63);
        coarse.first = self.first >> doublings;
        for (i, &count) in self.counts.iter().enumerate() {
            let bin = (((self.first + i as i64) >> doublings) - coarse.first) as usize;
            if bin >= coarse.counts.len() {
                coarse.counts.resize(bin + 1, 0);
            }
            coarse.counts[bin] += count;
        }
        coarse
    }

    /// Makes room for `range`: the right width, and bins from its low to its high end.
    fn cover(&mut self, range: Range) {
        let range = self.range().map_or(range, |seen| seen.union(range));
        let exponent = exponent_for(range);
        if self.counts.is_empty() {
            self.exponent = exponent;
        } else if exponent > self.exponent {
            *self = self.coarser((exponent - self.exponent) as u32);
        }
        let (first, last) = ends(range, self.exponent);
        if self.counts.is_empty() {
            self.first = first;
        }
        if first < self.first {
            let more = (self.first - first) as usize;
            self.counts.splice(0..0, core::iter::repeat_n(0, more));
            self.first = first;
        }
        let len = (last - self.first + 1) as usize;
        if len > self.counts.len() {
            self.counts.resize(len, 0);
        }
        self.seen = Some((range.lo().to_bits(), range.hi().to_bits()));
    }
}

/// The smallest exponent with which [`MAX_BINS`] bins hold `range`.
fn exponent_for(range: Range) -> i32 {
    let fits = |exponent| {
        let (first, last) = ends(range, exponent);
        last.saturating_sub(first) < MAX_BINS as i64
    };
    // Both ends are at most 2^128 and the search is over an ordered predicate.
    let (mut no, mut yes) = (MIN_EXPONENT - 1, 128);
    while yes - no > 1 {
        let middle = (no + yes).div_euclid(2);
        if fits(middle) { yes = middle } else { no = middle }
    }
    yes
}

/// The first and the last bin of `range`.
fn ends(range: Range, exponent: i32) -> (i64, i64) {
    (bin_of(range.lo(), exponent), bin_of(range.hi(), exponent))
}

/// `floor(value / 2^exponent)`; the quotient is exact, and saturates where nothing fits anyway.
fn bin_of(value: f32, exponent: i32) -> i64 {
    let quotient = f64::from(value) * power_of_two(-exponent);
    let truncated = quotient as i64;
    truncated.saturating_sub(i64::from((truncated as f64) > quotient))
}

/// `2^exponent` for the exponents of f32 and their negatives.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

impl Observer for Histogram {
    fn observe(&mut self, values: &[f32]) -> Result<(), NonFinite> {
        if values.is_empty() {
            return Ok(());
        }
        let (lo, hi) = Kernel::current().min_max(values)?;
        self.cover(Range::new(lo, hi).unwrap_or(Range::ZERO));
        let room = usize::try_from(self.room()).unwrap_or(usize::MAX);
        for &value in values.iter().take(room) {
            self.counts[(bin_of(value, self.exponent) - self.first) as usize] += 1;
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        let Some(range) = other.range() else { return };
        self.cover(range);
        let doublings = ((self.exponent - other.exponent) as u32).min(63);
        let mut room = self.room();
        for (i, &count) in other.counts.iter().enumerate() {
            let bin = (other.first + i as i64) >> doublings;
            let added = count.min(room);
            self.counts[(bin - self.first) as usize] += added;
            room -= added;
        }
    }
}

/// [`Histogram`] as it is serialized, before it is checked.
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
struct RawHistogram {
    lo: Option<f32>,
    hi: Option<f32>,
    counts: Vec<u64>,
}

impl From<Histogram> for RawHistogram {
    fn from(histogram: Histogram) -> Self {
        let range = histogram.range();
        Self { lo: range.map(Range::lo), hi: range.map(Range::hi), counts: histogram.counts }
    }
}

impl TryFrom<RawHistogram> for Histogram {
    type Error = &'static str;

    fn try_from(raw: RawHistogram) -> Result<Self, Self::Error> {
        let (Some(lo), Some(hi)) = (raw.lo, raw.hi) else {
            let empty = raw.lo.is_none() && raw.hi.is_none() && raw.counts.is_empty();
            return if empty { Ok(Self::default()) } else { Err("a histogram has both ends") };
        };
        let range = Range::new(lo, hi).ok_or("the ends of a histogram are finite")?;
        let mut histogram = Self::default();
        histogram.cover(range);
        let sum = raw.counts.iter().try_fold(0u64, |sum, &n| sum.checked_add(n));
        if raw.counts.len() != histogram.counts.len() || sum.is_none() {
            return Err("the counts of a histogram do not fit its range");
        }
        histogram.counts = raw.counts;
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(batches: &[&[f32]]) -> Histogram {
        let mut histogram = Histogram::default();
        for batch in batches {
            histogram.observe(batch).unwrap();
        }
        histogram
    }

    #[test]
    fn any_split_and_order_gives_the_same_state() {
        let whole = of(&[&[1e-3, 5.0, -2.0, 3e4, -0.0, 7.5]]);
        assert_eq!(of(&[&[7.5], &[3e4, -2.0], &[], &[5.0, 0.0, 1e-3]]), whole);
        let mut merged = of(&[&[1e-3, 5.0]]);
        merged.merge(&of(&[&[3e4, -2.0, 7.5, 0.0]]));
        assert_eq!(merged, whole);
        assert_eq!(whole.count(), 6);
    }

    #[test]
    fn bins_hold_what_they_say() {
        let values = [0.1f32, 0.1, -3.7, 2.0, 1.999];
        let histogram = of(&[&values]);
        for bin in histogram.bins() {
            let inside = |x: &&f32| (bin.start..bin.end).contains(&f64::from(**x));
            assert_eq!(bin.count, values.iter().filter(inside).count() as u64);
        }
        assert!(histogram.bins().len() <= MAX_BINS);
        assert!(histogram.bins().len() > MAX_BINS / 4);
    }

    #[test]
    fn extremes_fit() {
        for values in [&[f32::MIN, f32::MAX][..], &[0.0], &[1e-45, -1e-45], &[f32::MAX]] {
            let histogram = of(&[values]);
            assert_eq!(histogram.count(), values.len() as u64);
            assert!(histogram.bins().len() <= MAX_BINS);
        }
        assert!(of(&[&[0.0], &[1e-45], &[f32::MAX]]) == of(&[&[f32::MAX, 1e-45, 0.0]]));
    }

    #[test]
    fn counting_ends_where_the_sum_of_all_counts_would_overflow() {
        let mut histogram = of(&[&[-1.0, 1.0, 1.0]]);
        for _ in 0..70 {
            let twice = histogram.clone();
            histogram.merge(&twice);
        }
        histogram.observe(&[1.0, 2.0, -0.5]).unwrap();
        assert_eq!(histogram.count(), u64::MAX);
        assert_eq!(histogram.coarser(8).count(), u64::MAX);
        let saved = RawHistogram::from(histogram.clone());
        assert_eq!(Histogram::try_from(saved), Ok(histogram));
    }

    #[test]
    fn a_batch_with_a_nan_leaves_no_trace() {
        let mut histogram = of(&[&[1.0]]);
        let before = histogram.clone();
        assert!(histogram.observe(&[9.0, f32::NAN]).is_err());
        assert_eq!(histogram, before);
    }
}
