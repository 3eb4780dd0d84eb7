//! Scales and offsets with the least weighted squared error (rule 19).
//!
//! A search over ranges knows the ends of the values alone. This one fits the scale to the codes:
//! for codes `q` of a candidate, the least of `Σ h (x - s·q)²` is at `s = Σ h·x·q / Σ h·q²`, and over
//! minimums the line through the points `(u, x)` gives both scale and minimum.

use crate::scheme::{Grid, Mapping, MinimumParams, QuantParams, Range, ScaleError};

/// The scales that are tried are so many 32nds of that of min-max.
const PARTS: core::ops::RangeInclusive<u32> = 18..=38;

/// How often a scale is fitted to the codes that it gives.
const FITS: usize = 2;

/// The weight of each value of a group, if they differ.
type Weights<'a> = Option<&'a [f64]>;

fn weight(weights: Weights<'_>, at: usize) -> f64 {
    weights.map_or(1.0, |weights| weights[at])
}

/// `Σ h (x - x̂)²` over a group.
pub(crate) fn zero_point_error(
    values: &[f32],
    weights: Weights<'_>,
    grid: Grid,
    params: QuantParams,
) -> f64 {
    let error = |(at, &value): (usize, &f32)| {
        let error = f64::from(value) - f64::from(params.dequantize(grid.quantize(value, params)));
        weight(weights, at) * error * error
    };
    values.iter().enumerate().map(error).sum()
}

/// As [`zero_point_error`], over a minimum.
pub(crate) fn minimum_error(
    values: &[f32],
    weights: Weights<'_>,
    grid: Grid,
    params: MinimumParams,
) -> f64 {
    let (qmin, _) = grid.code_range();
    let error = |(at, &value): (usize, &f32)| {
        let code = i32::from(grid.quantize_over_minimum(value, params)) - qmin;
        let error = f64::from(value) - f64::from(params.dequantize(code));
        weight(weights, at) * error * error
    };
    values.iter().enumerate().map(error).sum()
}

/// The scale of a group with zero point 0, never worse than that of `first`.
pub(crate) fn scale(
    values: &[f32],
    weights: Weights<'_>,
    grid: Grid,
    first: QuantParams,
) -> QuantParams {
    let largest = f64::from(values.iter().fold(0.0f32, |largest, value| largest.max(value.abs())));
    let (qmin, qmax) = grid.code_range();
    let widest = largest / f64::from(qmax.max(-qmin));
    let signs: &[f64] = if grid.mapping() == Mapping::FullRange { &[-1.0, 1.0] } else { &[1.0] };
    let parts = signs.iter().flat_map(|sign| PARTS.map(move |part| sign * f64::from(part) / 32.0));
    let fits =
        parts.filter_map(|part| fitted_scale(values, weights, grid, stored(grid, part * widest)?));
    refined(
        first,
        fits.reduce(Fit::better),
        |scale| stored(grid, scale),
        |params| zero_point_error(values, weights, grid, params),
        |params| fitted_scale(values, weights, grid, params),
    )
}

/// What was fitted to codes, and by how much of `Σ h·x²` the codes explain.
struct Fit<T> {
    explained: f64,
    of: T,
}

impl<T> Fit<T> {
    /// The better of both; of equal ones the first.
    fn better(self, other: Self) -> Self {
        if other.explained > self.explained { other } else { self }
    }
}

/// The best of `first` and of what is fitted to codes, as it is stored, and then to the codes of that.
fn refined<P: Copy, T>(
    first: P,
    mut fit: Option<Fit<T>>,
    store: impl Fn(T) -> Option<P>,
    error: impl Fn(P) -> f64,
    fit_to: impl Fn(P) -> Option<Fit<T>>,
) -> P {
    let mut best = (error(first), first);
    for _ in 0..FITS {
        let Some(params) = fit.and_then(|fit| store(fit.of)) else { break };
        let error = error(params);
        if error < best.0 {
            best = (error, params);
        }
        fit = fit_to(params);
    }
    best.1
}

/// A scale as it is stored, with zero point 0; `None` where its type does not hold it.
fn stored(grid: Grid, scale: f64) -> Option<QuantParams> {
    if grid.mapping() == Mapping::FullRange {
        // Its range is one-sided: the value of the least code.
        let (qmin, _) = grid.code_range();
        let end = (scale * f64::from(qmin)) as f32;
        return grid.params(Range::new(end, end)?).ok();
    }
    QuantParams::new(grid.store(scale as f32).ok()?, 0).ok()
}

/// The best scale for the codes that these parameters give.
fn fitted_scale(
    values: &[f32],
    weights: Weights<'_>,
    grid: Grid,
    params: QuantParams,
) -> Option<Fit<f64>> {
    let (mut above, mut below) = (0.0, 0.0);
    for (at, &value) in values.iter().enumerate() {
        let code = f64::from(grid.quantize(value, params));
        let weighted = weight(weights, at) * code;
        above += weighted * f64::from(value);
        below += weighted * code;
    }
    let of = above / below;
    (below > 0.0 && of.is_finite()).then_some(Fit { explained: above * of, of })
}

/// The scale and minimum of a group, never worse than those of its range.
///
/// # Errors
/// The range has no scale in its type.
pub(crate) fn minimum(
    values: &[f32],
    weights: Weights<'_>,
    grid: Grid,
    (lo, hi): (f32, f32),
) -> Result<MinimumParams, ScaleError> {
    /// Each end is moved by up to so many 24ths of the range, less one.
    const ENDS: u32 = 6;
    let first = grid.minimum_params(lo, hi)?;
    let (low, width) = (f64::from(lo), f64::from(hi) - f64::from(lo));
    let store = |Line { minimum, width }: Line| {
        grid.minimum_params(minimum as f32, (minimum + width) as f32).ok()
    };
    let ends = (0..ENDS * ENDS).map(|at| [at / ENDS, at % ENDS].map(|part| f64::from(part) / 24.0));
    let fits = ends.filter_map(|[below, above]| {
        let line = Line { minimum: low + below * width, width: (1.0 - below - above) * width };
        fitted_line(values, weights, grid, store(line)?)
    });
    Ok(refined(
        first,
        fits.reduce(Fit::better),
        store,
        |params| minimum_error(values, weights, grid, params),
        |params| fitted_line(values, weights, grid, params),
    ))
}

/// The value of the least code, and the distance from it to the greatest one.
#[derive(Clone, Copy)]
struct Line {
    minimum: f64,
    width: f64,
}

/// The best line for the codes that these parameters give.
fn fitted_line(
    values: &[f32],
    weights: Weights<'_>,
    grid: Grid,
    params: MinimumParams,
) -> Option<Fit<Line>> {
    let (qmin, qmax) = grid.code_range();
    let [mut all, mut u1, mut u2, mut x1, mut ux] = [0.0; 5];
    for (at, &value) in values.iter().enumerate() {
        let steps = f64::from(i32::from(grid.quantize_over_minimum(value, params)) - qmin);
        let (h, value) = (weight(weights, at), f64::from(value));
        all += h;
        u1 += h * steps;
        u2 += h * steps * steps;
        x1 += h * value;
        ux += h * steps * value;
    }
    let scale = (all * ux - u1 * x1) / (all * u2 - u1 * u1);
    let minimum = (x1 - scale * u1) / all;
    let explained = scale * ux + minimum * x1;
    let of = Line { minimum, width: scale * f64::from(qmax - qmin) };
    explained.is_finite().then_some(Fit { explained, of })
}
