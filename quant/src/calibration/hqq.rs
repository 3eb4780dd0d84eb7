//! Half-quadratic quantization: the minimum with the least norm of order 0.7 of the errors (rule 20).

use crate::scheme::{Grid, MinimumParams, ScaleError};

/// The steps of the search.
const STEPS: usize = 20;

/// Between the penalty of a step and that of the next one.
const GROWTH: f64 = 1.01;

/// The first penalty, for errors in steps of the scale.
const PENALTY: f64 = 10.0;

/// The scale of min-max, and the minimum that the search finds, never worse than that of min-max by the
/// mean magnitude of the errors.
///
/// # Errors
/// The range has no scale in its type.
pub(crate) fn minimum(
    values: &[f32],
    grid: Grid,
    (lo, hi): (f32, f32),
) -> Result<MinimumParams, ScaleError> {
    let first = grid.minimum_params(lo, hi)?;
    let (qmin, qmax) = grid.code_range();
    let levels = f64::from(qmax - qmin);
    let (scale, count) = (f64::from(first.scale), values.len() as f64);
    let (mut params, mut best, mut penalty) = (first, (f64::INFINITY, first), PENALTY);
    for _ in 0..STEPS {
        // Codes for the minimum, and the minimum for codes without the errors that are outliers.
        let (mut magnitude, mut sum) = (0.0, 0.0);
        for &value in values {
            let steps = i32::from(grid.quantize_over_minimum(value, params)) - qmin;
            let error = f64::from(value) - f64::from(params.dequantize(steps));
            magnitude += error.abs();
            sum += f64::from(value)
                - scale * f64::from(steps)
                - shrunk(error / scale, penalty) * scale;
        }
        if magnitude >= best.0 {
            break;
        }
        best = (magnitude, params);
        let minimum = sum / count;
        let next = grid.minimum_params(minimum as f32, (minimum + scale * levels) as f32);
        let Ok(next) = next else { break };
        params = MinimumParams { scale: first.scale, ..next };
        penalty *= GROWTH;
    }
    Ok(best.1)
}

/// `sign(x) · max(0, |x| - |x|^(p - 1) / β)` with `p = 0.7`.
fn shrunk(error: f64, penalty: f64) -> f64 {
    let magnitude = error.abs();
    // Smaller ones are nothing for each penalty of the search, and the power would be infinite for 0.
    if magnitude < 0.125 {
        return 0.0;
    }
    let least = (magnitude - power(magnitude) / penalty).max(0.0);
    least.copysign(error)
}

/// `x^-0.3`, of `x` from 1/8 on, by Newton's method on `y^-10 = x^3`.
///
/// Arithmetic alone, so that it has the same bits on every CPU.
fn power(x: f64) -> f64 {
    let cube = x * x * x;
    let mut y = if x < 1.0 { 1.0 } else { 1.0 / x };
    for _ in 0..40 {
        // y ← y · (11 - x³ · y¹⁰) / 10
        let y2 = y * y;
        let y4 = y2 * y2;
        y = y * (11.0 - cube * (y4 * y4 * y2)) / 10.0;
    }
    y
}
