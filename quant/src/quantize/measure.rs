//! The bytes and the expected error of quantizing one parameter.

use super::error::QuantizeError;
use super::fit::{Fitted, fit};
use super::outcome::Expected;
use super::planner::Choice;
use super::weights;
use crate::kernel::QuantError;
use crate::module::ParamId;
use crate::tensor::record_lens;

/// The result of quantizing one tensor.
pub(super) struct Measured {
    pub(super) bytes: u64,
    /// `Σ (x - x̂)²`.
    pub(super) noise: f64,
    pub(super) expected: Expected,
    /// What its codes are computed with.
    pub(super) fitted: Fitted,
}

pub(super) fn measure(
    id: &ParamId,
    shape: &[usize],
    values: &[f32],
    choice: &Choice,
) -> Result<Measured, QuantizeError> {
    let fitted = fit(id, shape, values, choice)?;
    let lens = record_lens(shape, choice.scheme, fitted.params.len());
    let bytes = lens.expect("the tensor is in memory").iter().sum::<usize>() as u64;
    let (expected, noise) = expect(&fitted, values);
    Ok(Measured { bytes, noise, expected, fitted })
}

fn expect(Fitted { scheme, groups, params }: &Fitted, values: &[f32]) -> (Expected, f64) {
    let grid = scheme.grid();
    let mut error = QuantError::default();
    let each = weights::for_each_group(*groups, values, |group, values| {
        error = error.and(params.error(grid, group, values));
        Ok::<(), core::convert::Infallible>(())
    });
    let Ok(()) = each;
    let scales = params.scales();
    let expected = Expected {
        scales: (scales.fold(f32::INFINITY, f32::min), params.scales().fold(0.0, f32::max)),
        sqnr_db: error.sqnr_db(),
        max_abs_error: error.largest,
    };
    (expected, error.noise)
}
