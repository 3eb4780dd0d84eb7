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
    powers: &Powers,
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
                - powers.shrunk(error / scale, penalty) * scale;
        }
        if magnitude >= best.0 {
            break;
        }
        best = (magnitude, params);
        let minimum = sum / count;
        let next = grid.minimum_params(minimum as f32, (minimum + scale * levels) as f32);
        let Ok(next) = next else { break };
        params = MinimumParams { scale: first.scale, ..next };
        if !params.dequantize(qmax - qmin).is_finite() {
            break;
        }
        penalty *= GROWTH;
    }
    Ok(best.1)
}

/// `|x|^(p - 1)` with `p = 0.7`, on a grid between which it is interpolated.
///
/// Arithmetic alone, so that it has the same bits on every CPU.
#[derive(Debug)]
pub(crate) struct Powers([f64; Powers::STEPS + 1]);

impl Powers {
    /// The steps of the grid from 0 to 1.
    const STEPS: usize = 256;

    /// For smaller errors nothing is left after any penalty of the search.
    const LEAST: f64 = 0.125;

    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|at| power((at as f64 / Self::STEPS as f64).max(Self::LEAST))))
    }

    /// `x^-0.3`, of `x` from 1/8 on.
    fn at(&self, x: f64) -> f64 {
        if x >= 1.0 {
            return power(x);
        }
        let at = x * Self::STEPS as f64;
        let below = at as usize;
        let part = at - below as f64;
        self.0[below] + part * (self.0[below + 1] - self.0[below])
    }

    /// `sign(x) · max(0, |x| - |x|^(p - 1) / β)`.
    fn shrunk(&self, error: f64, penalty: f64) -> f64 {
        let magnitude = error.abs();
        if magnitude < Self::LEAST {
            return 0.0;
        }
        (magnitude - self.at(magnitude) / penalty).max(0.0).copysign(error)
    }
}

/// `x^-0.3` by Newton's method on `y^-10 = x^3`.
fn power(x: f64) -> f64 {
    let cube = x * x * x;
    let mut y = if x < 1.0 { 1.0 } else { 1.0 / x };
    // It never exceeds the root, and grows by at most a tenth.
    for _ in 0..100 {
        let y2 = y * y;
        let y4 = y2 * y2;
        y = y * (11.0 - cube * (y4 * y4 * y2)) / 10.0;
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_the_definition() {
        let powers = Powers::new();
        for at in 1000..20000 {
            let x = f64::from(at) / 8000.0;
            let y = powers.at(x);
            // `y^10 · x^3` is 1.
            let product = (0..10).fold(x * x * x, |product, _| product * y);
            assert!((product - 1.0).abs() < 2e-3, "{x}: {y}");
        }
    }

    #[test]
    fn small_errors_vanish_and_large_ones_stay_nearly() {
        let powers = Powers::new();
        assert_eq!(powers.shrunk(0.16, 10.0), 0.0);
        assert!((powers.shrunk(-0.5, 10.0) + 0.5 - 0.5f64.powf(-0.3) / 10.0).abs() < 1e-4);
        assert!(powers.shrunk(8.0, 10.0) > 7.9);
    }
}
