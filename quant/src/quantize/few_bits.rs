//! Parameters of groups by methods that look further than ranges.

use alloc::vec::Vec;

use super::weights::{GroupParams, WeightError, each_minimum, each_zero_point, within};
use crate::calibration::{Calibration, MseCalibration, hqq, least_squares, mse};
use crate::scheme::{Grid, Groups, Mapping};

/// Scales and minimums with the least squared error. `inputs` weighs the error of each column of rows
/// that the tensor consists of.
pub(super) fn least_squares(
    groups: Groups,
    grid: Grid,
    values: &[f32],
    inputs: Option<&[f64]>,
) -> Result<GroupParams, WeightError> {
    let mut gathered = Vec::new();
    if grid.mapping() == Mapping::Minimum {
        return each_minimum(groups, values, |group, values, ends| {
            let weights = weights_of(groups, group, inputs, &mut gathered);
            least_squares::minimum(values, weights, grid, ends)
        });
    }
    each_zero_point(groups, grid, values, |group, values| {
        let error = |error| WeightError::NonFinite(within(groups, group, error));
        let range = MseCalibration {}.weight_range(values, grid).map_err(error)?;
        let weights = weights_of(groups, group, inputs, &mut gathered);
        let range = match (grid.mapping(), weights) {
            (Mapping::Affine, Some(weights)) => mse::weighted_range(values, weights, grid, range),
            _ => range,
        };
        let first = grid.params(range).map_err(|source| WeightError::Scale { group, source })?;
        if grid.mapping() == Mapping::Affine {
            return Ok(first);
        }
        Ok(least_squares::scale(values, weights, grid, first))
    })
}

/// Minimums by half-quadratic quantization.
pub(super) fn hqq(groups: Groups, grid: Grid, values: &[f32]) -> Result<GroupParams, WeightError> {
    if !grid.mapping().has_minimums() {
        return Err(WeightError::NeedsMinimums);
    }
    let powers = hqq::Powers::new();
    each_minimum(groups, values, |_, values, ends| hqq::minimum(values, grid, ends, &powers))
}

/// The weight of each value of a group, gathered if there are any.
fn weights_of<'a>(
    groups: Groups,
    group: usize,
    inputs: Option<&[f64]>,
    gathered: &'a mut Vec<f64>,
) -> Option<&'a [f64]> {
    let inputs = inputs?;
    gathered.clear();
    let elements = groups.runs_of(group).flatten();
    gathered.extend(elements.map(|element| inputs[element % inputs.len()]));
    Some(gathered)
}
