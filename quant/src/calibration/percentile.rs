//! The range that holds a given share of the values.

use alloc::borrow::Cow;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::{Calibration, Histogram};
use crate::scheme::{Grid, Mapping, Range};

/// The range that holds `percentile` per cent of the values.
///
/// With a symmetric mapping the percentile is one of magnitudes. With an affine mapping half of the
/// remaining values lie below the range and half above. The ends are ends of bins: each is within one
/// bin of the exact order statistic.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "f64", into = "f64"))]
pub struct PercentileCalibration {
    percentile: f64,
}

impl PercentileCalibration {
    /// The calibration with this percentile, or `None` unless `0 < percentile <= 100`.
    pub fn new(percentile: f64) -> Option<Self> {
        (percentile > 0.0 && percentile <= 100.0).then_some(Self { percentile })
    }

    /// The share of the values inside of the range, in per cent.
    pub fn percentile(self) -> f64 {
        self.percentile
    }

    /// The number of `count` values that may stay outside.
    ///
    /// 99.99 is not a binary fraction, so 99.99 per cent of 100,000 is not exactly 99,990. Without
    /// rounding, that small error would include or exclude a whole value, which may be far away.
    fn outside(self, count: u64) -> f64 {
        let count = count as f64;
        let inside = self.percentile * count / 100.0;
        let whole = (inside + 0.5) as u64 as f64;
        let is_whole = (inside - whole).abs() <= 4.0 * f64::EPSILON * count;
        count - if is_whole { whole } else { inside }
    }
}

/// 99.99 per cent.
impl Default for PercentileCalibration {
    fn default() -> Self {
        Self { percentile: 99.99 }
    }
}

impl TryFrom<f64> for PercentileCalibration {
    type Error = &'static str;

    fn try_from(percentile: f64) -> Result<Self, Self::Error> {
        Self::new(percentile).ok_or("a percentile is above 0 and at most 100")
    }
}

impl From<PercentileCalibration> for f64 {
    fn from(calibration: PercentileCalibration) -> Self {
        calibration.percentile
    }
}

impl Calibration for PercentileCalibration {
    type Observer = Histogram;

    fn name(&self) -> Cow<'static, str> {
        if *self == Self::default() {
            "percentile".into()
        } else {
            alloc::format!("percentile:{}", self.percentile).into()
        }
    }

    fn observer(&self) -> Histogram {
        Histogram::default()
    }

    fn range(&self, histogram: &Histogram, grid: Grid) -> Option<Range> {
        let full = histogram.range()?;
        let out = self.outside(histogram.count());
        let (lo, hi) = match grid.mapping() {
            Mapping::Symmetric => {
                let magnitude = magnitude_above(histogram, out);
                (-magnitude, magnitude)
            }
            Mapping::Affine | Mapping::FullRange | Mapping::Minimum => {
                let bins = histogram.bins().map(|bin| (bin.start, bin.count));
                let lo = reach(bins, out / 2.0);
                let bins = histogram.bins().rev().map(|bin| (bin.end, bin.count));
                (lo, reach(bins, out / 2.0))
            }
        };
        Range::new((lo as f32).max(full.lo()), (hi as f32).min(full.hi()))
    }
}

/// The first of `ends`, each with a count, at which the counts add up to more than `out`.
fn reach(ends: impl Iterator<Item = (f64, u64)>, out: f64) -> f64 {
    let mut passed = 0;
    let mut last = 0.0;
    for (end, count) in ends {
        passed += count;
        last = end;
        if passed as f64 > out {
            break;
        }
    }
    last
}

/// The magnitude that about `out` values exceed.
fn magnitude_above(histogram: &Histogram, out: f64) -> f64 {
    let mut low = histogram.bins().filter(|bin| bin.start < 0.0).peekable();
    let mut high = histogram.bins().rev().filter(|bin| bin.start >= 0.0).peekable();
    // From the outside in: the side that reaches farther comes next.
    let ends = core::iter::from_fn(|| {
        let below = low.peek().map_or(0.0, |bin| -bin.start);
        let above = high.peek().map_or(0.0, |bin| bin.end);
        let bin = if below > above { low.next() } else { high.next().or_else(|| low.next()) };
        bin.map(|bin| (bin.end.max(-bin.start), bin.count))
    });
    reach(ends, out)
}
