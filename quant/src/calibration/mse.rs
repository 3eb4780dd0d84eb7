//! The range with the least squared quantization error.

use alloc::borrow::Cow;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::{Calibration, Histogram, MinMaxCalibration, quant_error};
use crate::scheme::{Grid, Mapping, NonFinite, Range};

/// The range that minimises the squared error between values and their dequantized codes.
///
/// With a range smaller than that of the values, a few values saturate and all others get smaller
/// steps. That seldom pays at 8 bits for weights, and pays at 4 bits and below. The search tries
/// narrower ends in steps of 1/64 of the range, then of 1/512 around the best. It is never worse than
/// [`MinMaxCalibration`]. For weights it uses the values, for activations their [`Histogram`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct MseCalibration {}

impl Calibration for MseCalibration {
    type Observer = Histogram;

    fn name(&self) -> Cow<'static, str> {
        "mse".into()
    }

    fn observer(&self) -> Histogram {
        Histogram::default()
    }

    fn range(&self, histogram: &Histogram, grid: Grid) -> Option<Range> {
        let full = histogram.range()?;
        let found = search(full, grid.mapping(), |range| histogram_error(histogram, grid, range).1);
        // Inside a bin an error changes by at most half the bin's width. A range counts as better only
        // if it is better for all values that the bins may hold.
        let certain = histogram_error(histogram, grid, found).2;
        let possible = histogram_error(histogram, grid, full).0;
        Some(if certain < possible { found } else { full })
    }

    fn weight_range(&self, values: &[f32], grid: Grid) -> Result<Range, NonFinite> {
        let full = MinMaxCalibration {}.weight_range(values, grid)?;
        let error = |range| weight_error(values, grid, range);
        if grid.mapping() == Mapping::FullRange {
            return Ok(full_range(full, error));
        }
        Ok(search(full, grid.mapping(), error))
    }
}

/// The better of the two signs that a full-range scale can have.
fn full_range(full: Range, error: impl Fn(Range) -> f64) -> Range {
    let magnitude = full.magnitude();
    let sides = [Range::new(-magnitude, 0.0), Range::new(0.0, magnitude)];
    let found = sides.into_iter().flatten().map(|side| search(side, Mapping::Symmetric, &error));
    // Of equal errors the one of min-max, and then the first.
    let (least, at) = (error(full), full);
    found
        .fold((least, at), |best, range| {
            let error = error(range);
            if error < best.0 { (error, range) } else { best }
        })
        .1
}

/// The squared error of `values` quantized over `range`; infinite where the grid has no scale.
fn weight_error(values: &[f32], grid: Grid, range: Range) -> f64 {
    match grid.params(range) {
        Ok(params) => quant_error(grid, values, params).noise,
        Err(_) => f64::INFINITY,
    }
}

/// The least, the likely and the greatest squared error of the counted values, quantized over
/// `range`: for values in the middle of their bins, and half a bin's width of error to either side.
fn histogram_error(histogram: &Histogram, grid: Grid, range: Range) -> (f64, f64, f64) {
    let Ok(params) = grid.params(range) else {
        return (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    };
    let slack = histogram.bin_width() / 2.0;
    let (mut least, mut likely, mut greatest) = (0.0, 0.0, 0.0);
    for bin in histogram.bins().filter(|bin| bin.count > 0) {
        let (count, center) = (bin.count as f64, bin.center());
        let error =
            (center - f64::from(params.dequantize(grid.quantize(center as f32, params)))).abs();
        least += count * square((error - slack).max(0.0));
        likely += count * error * error;
        greatest += count * square(error + slack);
    }
    (least, likely, greatest)
}

fn square(x: f64) -> f64 {
    x * x
}

/// The unit of a range's ends: 512 parts are the whole.
const WHOLE: u32 = 512;

/// The low and the high end of a candidate, in parts of the full range's.
type Parts = [u32; 2];

/// Which ends of the range a pass of the search moves.
#[derive(Clone, Copy)]
enum Pass {
    Both,
    Low,
    High,
}

impl Pass {
    fn set(self, [lo, hi]: Parts, part: u32) -> Parts {
        match self {
            Self::Both => [part, part],
            Self::Low => [part, hi],
            Self::High => [lo, part],
        }
    }

    fn get(self, [lo, hi]: Parts) -> u32 {
        match self {
            Self::Both | Self::Low => lo,
            Self::High => hi,
        }
    }
}

/// The range inside `full` with the least `error`; `full` itself when nothing is better.
pub(super) fn search(full: Range, mapping: Mapping, error: impl Fn(Range) -> f64) -> Range {
    let part = |end: f32, parts: u32| (f64::from(end) * f64::from(parts) / f64::from(WHOLE)) as f32;
    let range =
        |[lo, hi]: Parts| Range::new(part(full.lo(), lo), part(full.hi(), hi)).unwrap_or(full);
    let error = |parts: Parts| error(range(parts));
    let passes: &[Pass] = match mapping {
        Mapping::Symmetric | Mapping::FullRange | Mapping::Minimum => &[Pass::Both],
        Mapping::Affine => &[Pass::Both, Pass::Low, Pass::High],
    };
    let mut best = ([WHOLE; 2], error([WHOLE; 2]));
    for &pass in passes {
        best = least(best, (8..WHOLE).step_by(8), pass, error);
        let near = pass.get(best.0);
        best = least(best, near.saturating_sub(7).max(1)..WHOLE.min(near + 8), pass, error);
    }
    range(best.0)
}

/// The best of `best` and the candidates whose ends `pass` sets to `parts`.
fn least(
    best: (Parts, f64),
    parts: impl Iterator<Item = u32>,
    pass: Pass,
    error: impl Fn(Parts) -> f64,
) -> (Parts, f64) {
    let start = best.0;
    parts.fold(best, |best, part| {
        let candidate = pass.set(start, part);
        let error = error(candidate);
        if error < best.1 { (candidate, error) } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::{QuantizationType, ScaleType};
    use alloc::vec::Vec;

    fn noise(values: &[f32], grid: Grid, calibration: impl Calibration) -> f64 {
        let range = calibration.weight_range(values, grid).unwrap();
        quant_error(grid, values, grid.params(range).unwrap()).noise
    }

    #[test]
    fn is_never_worse_than_min_max_and_better_with_an_outlier() {
        let mut values: Vec<f32> =
            (0..500).map(|i| ((i * 37) % 101) as f32 / 101.0 - 0.4).collect();
        values.push(4.0);
        for ty in QuantizationType::ALL {
            for mapping in [Mapping::Symmetric, Mapping::Affine, Mapping::FullRange] {
                let grid = Grid::new(ty, mapping, ScaleType::F32);
                let mse = noise(&values, grid, MseCalibration {});
                let min_max = noise(&values, grid, MinMaxCalibration {});
                assert!(mse <= min_max, "{ty} {mapping}: {mse} > {min_max}");
                if ty.bits() <= 4 {
                    assert!(mse < min_max, "{ty} {mapping}: {mse} of {min_max}");
                }
            }
        }
    }

    #[test]
    fn no_values_have_the_zero_range() {
        let grid = Grid::new(QuantizationType::QInt4, Mapping::Affine, ScaleType::F32);
        assert_eq!(MseCalibration {}.weight_range(&[], grid), Ok(Range::ZERO));
        assert_eq!(MseCalibration {}.weight_range(&[0.0; 3], grid), Ok(Range::ZERO));
    }
}
