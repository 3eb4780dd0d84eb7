//! The range with the least squared quantization error.

use alloc::borrow::Cow;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::least_squares::zero_point_error;
use super::{Calibration, Histogram, MinMaxCalibration, quant_error};
use crate::scheme::{Grid, Mapping, NonFinite, QuantParams, Range};

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
        let found =
            search(full, grid.mapping(), |range, _| histogram_error(histogram, grid, range).1);
        // Inside a bin an error changes by at most half the bin's width. A range counts as better only
        // if it is better for all values that the bins may hold.
        let certain = histogram_error(histogram, grid, found).2;
        let possible = histogram_error(histogram, grid, full).0;
        Some(if certain < possible { found } else { full })
    }

    fn weight_range(&self, values: &[f32], grid: Grid) -> Result<Range, NonFinite> {
        let full = MinMaxCalibration {}.weight_range(values, grid)?;
        let error = |range, enough| weight_error(values, full, grid, range, enough);
        if grid.mapping() == Mapping::FullRange {
            return Ok(full_range(full, error));
        }
        Ok(search(full, grid.mapping(), error))
    }
}

/// The range with a zero point that has the least `Σ h (x - x̂)²`, never worse than `first`.
pub(crate) fn weighted_range(values: &[f32], weights: &[f64], grid: Grid, first: Range) -> Range {
    let full = Range::of(values).unwrap_or(first);
    let error = |range| match grid.params(range) {
        Ok(params) => zero_point_error(values, Some(weights), grid, params),
        Err(_) => f64::INFINITY,
    };
    let found = search(full, grid.mapping(), |range, _| error(range));
    if error(found) < error(first) { found } else { first }
}

/// The better of the two signs that a full-range scale can have.
fn full_range(full: Range, error: impl Fn(Range, f64) -> f64) -> Range {
    let magnitude = full.magnitude();
    let sides = [Range::new(-magnitude, 0.0), Range::new(0.0, magnitude)];
    let found = sides.into_iter().flatten().map(|side| search(side, Mapping::Symmetric, &error));
    // Of equal errors the one of min-max, and then the first.
    let (least, at) = (error(full, f64::INFINITY), full);
    found
        .fold((least, at), |best, range| {
            let error = error(range, best.0);
            if error < best.0 { (error, range) } else { best }
        })
        .1
}

/// The squared error of `values`, whose own range is `full`, quantized over `range`. It is infinite where
/// the grid has no scale, and may be where it would be above `enough`.
fn weight_error(values: &[f32], full: Range, grid: Grid, range: Range, enough: f64) -> f64 {
    match grid.params(range) {
        Ok(params) if saturation_error(full, grid, params) <= enough => {
            quant_error(grid, values, params).noise
        }
        _ => f64::INFINITY,
    }
}

/// The greater of the squared errors of the ends of the range of some values, where they saturate. The
/// squared error of all values, a sum with this term, is at least as great.
///
/// In a small group most candidates lose more by their ends than others by all values.
fn saturation_error(full: Range, grid: Grid, params: QuantParams) -> f64 {
    let (qmin, qmax) = grid.code_range();
    let [a, b] = [qmin, qmax].map(|code| params.dequantize(code as i8));
    let beyond = (full.hi() - a.max(b)).max(a.min(b) - full.lo()).max(0.0);
    square(f64::from(beyond))
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

/// The range inside `full` with the least `error`; `full` itself when nothing is better. `error` gets
/// the least one so far, too, and may be infinite in place of a greater one.
fn search(full: Range, mapping: Mapping, error: impl Fn(Range, f64) -> f64) -> Range {
    let part = |end: f32, parts: u32| (f64::from(end) * f64::from(parts) / f64::from(WHOLE)) as f32;
    let range =
        |[lo, hi]: Parts| Range::new(part(full.lo(), lo), part(full.hi(), hi)).unwrap_or(full);
    let error = |parts: Parts, enough| error(range(parts), enough);
    // With a zero point, both ends depend on both.
    let is_monotone = mapping != Mapping::Affine;
    let passes: &[Pass] = match mapping {
        Mapping::Symmetric | Mapping::FullRange | Mapping::Minimum => &[Pass::Both],
        Mapping::Affine => &[Pass::Both, Pass::Low, Pass::High],
    };
    let mut best = ([WHOLE; 2], error([WHOLE; 2], f64::INFINITY));
    for &pass in passes {
        best = least(best, (8..WHOLE).step_by(8), pass, is_monotone, error);
        let near = pass.get(best.0);
        let parts = near.saturating_sub(7).max(1)..WHOLE.min(near + 8);
        best = least(best, parts, pass, is_monotone, error);
    }
    range(best.0)
}

/// The best of `best` and the candidates whose ends `pass` sets to `parts`, of equal ones the first.
///
/// The widest range is tried first, which soon finds an error that narrow ones are above. Where all
/// narrower ranges saturate more, the first infinite error after a finite one ends the search.
fn least(
    best: (Parts, f64),
    parts: impl DoubleEndedIterator<Item = u32>,
    pass: Pass,
    is_monotone: bool,
    error: impl Fn(Parts, f64) -> f64,
) -> (Parts, f64) {
    let mut found = best;
    for part in parts.rev() {
        let candidate = pass.set(best.0, part);
        let error = error(candidate, found.1);
        if is_monotone && found.1 < f64::INFINITY && error == f64::INFINITY {
            break;
        }
        if error <= found.1 && error < best.1 {
            found = (candidate, error);
        }
    }
    found
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
    fn candidates_that_are_passed_over_would_not_have_been_chosen() {
        let values = |n: usize| (0..n).map(|i| ((i * i * 37) % 101) as f32 / 50.0 - 0.7);
        for ty in QuantizationType::ALL {
            for mapping in [Mapping::Symmetric, Mapping::Affine, Mapping::FullRange] {
                let grid = Grid::new(ty, mapping, ScaleType::F32);
                for n in [1, 2, 3, 8, 33] {
                    let values: Vec<f32> = values(n).collect();
                    let full = MinMaxCalibration {}.weight_range(&values, grid).unwrap();
                    let all = |range, _| weight_error(&values, full, grid, range, f64::INFINITY);
                    let expected = match mapping {
                        Mapping::FullRange => full_range(full, all),
                        _ => search(full, mapping, all),
                    };
                    let found = MseCalibration {}.weight_range(&values, grid).unwrap();
                    assert_eq!(found, expected, "{ty} {mapping} {n}");
                }
            }
        }
    }

    #[test]
    fn a_scale_that_its_type_does_not_hold_is_passed_over_for_smaller_ones() {
        let grid = Grid::new(QuantizationType::QInt4, Mapping::Symmetric, ScaleType::F16);
        let values = [-5e5, 1e5, 4e5];
        let full = MinMaxCalibration {}.weight_range(&values, grid).unwrap();
        assert!(grid.params(full).is_err());
        let found = MseCalibration {}.weight_range(&values, grid).unwrap();
        assert!(grid.params(found).is_ok(), "{found:?}");
    }

    #[test]
    fn no_values_have_the_zero_range() {
        let grid = Grid::new(QuantizationType::QInt4, Mapping::Affine, ScaleType::F32);
        assert_eq!(MseCalibration {}.weight_range(&[], grid), Ok(Range::ZERO));
        assert_eq!(MseCalibration {}.weight_range(&[0.0; 3], grid), Ok(Range::ZERO));
    }
}
