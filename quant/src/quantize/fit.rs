//! The scale and zero point of each group of a parameter.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;

use super::error::QuantizeError;
use super::gptq::Gptq;
use super::planner::Choice;
use super::weights::{self, GroupParams, WeightError, WeightRange};
use crate::calibration::{LeastSquaresCalibration, MseCalibration, WeightMethod};
use crate::kernel::QuantError;
use crate::module::ParamId;
use crate::moments::{LayerMoments, ParamMoments};
use crate::scheme::{Grid, Groups, QuantizationScheme};
use crate::tensor::{QuantizedTensor, record_lens};

/// What the codes of a parameter are computed with.
#[derive(Clone)]
pub(crate) struct Fitted {
    pub(super) scheme: QuantizationScheme,
    pub(super) groups: Groups,
    pub(super) params: GroupParams,
    /// The codes, where they are not the nearest ones.
    pub(super) rounded: Option<Arc<QuantizedTensor>>,
}

impl Fitted {
    /// The codes of `values`, a tensor of this shape.
    pub(super) fn quantize(&self, shape: &[usize], values: &[f32]) -> QuantizedTensor {
        match &self.rounded {
            Some(tensor) => QuantizedTensor::clone(tensor),
            None => self.params.quantize(shape, self.scheme, self.groups, values),
        }
    }

    /// The error that quantizing makes in the values of a group.
    pub(super) fn error(
        &self,
        group: usize,
        values: &[f32],
        dequantized: Option<&[f32]>,
    ) -> QuantError {
        let Some(dequantized) = dequantized else {
            return self.params.error(self.scheme.grid(), group, values);
        };
        let elements = self.groups.runs_of(group).flatten();
        elements.zip(values).fold(QuantError::default(), |sum, (element, &value)| {
            let error = value - dequantized[element];
            let (signal, noise) = (f64::from(value).powi(2), f64::from(error).powi(2));
            sum.and(QuantError { signal, noise, largest: error.abs() })
        })
    }
}

/// Calibrates each group of a parameter.
pub(super) fn fit(
    id: &ParamId,
    shape: &[usize],
    values: &[f32],
    choice: &Choice,
) -> Result<Fitted, QuantizeError> {
    let scheme = choice.scheme;
    let calibration = calibration(id, choice)?;
    let fit = || {
        let groups = Groups::new(shape, scheme.granularity())?;
        let moments = choice.moments.as_ref().map(ParamMoments::load).transpose()?;
        fitted(scheme, groups, shape, values, (calibration, moments.as_deref()))
    };
    fit().map_err(|source| QuantizeError::Param { id: id.clone(), scheme, source })
}

fn fitted(
    scheme: QuantizationScheme,
    groups: Groups,
    shape: &[usize],
    values: &[f32],
    (calibration, moments): (&dyn WeightRange, Option<&LayerMoments>),
) -> Result<Fitted, WeightError> {
    let (grid, method) = (scheme.grid(), calibration.weight_method());
    let weights = moments.map(LayerMoments::weights);
    let params = weights::group_params(groups, grid, values, calibration, weights.as_deref())?;
    let (WeightMethod::Gptq { descending }, Some(moments)) = (method, moments) else {
        return Ok(Fitted { scheme, groups, params, rounded: None });
    };
    let factor = moments.factor(descending).ok_or(WeightError::DiagonalMoments)?;
    let nearest = nearest(groups, grid, values)?;
    let (params, rounded) = Gptq { groups, grid, factor: &factor, params, nearest }.round(values);
    let rounded = Some(Arc::new(params.quantize(shape, scheme, groups, &rounded)));
    Ok(Fitted { scheme, groups, params, rounded })
}

/// The parameters with which GPTQ is compared: those of `mse`, and over minimums of the least squares.
fn nearest(groups: Groups, grid: Grid, values: &[f32]) -> Result<GroupParams, WeightError> {
    if grid.mapping().has_minimums() {
        return weights::group_params(groups, grid, values, &LeastSquaresCalibration {}, None);
    }
    weights::group_params(groups, grid, values, &MseCalibration {}, None)
}

/// The bytes of a parameter that is quantized like this. What can fail for any values fails.
pub(super) fn quantized_bytes(
    id: &ParamId,
    shape: &[usize],
    choice: &Choice,
) -> Result<u64, QuantizeError> {
    let scheme = choice.scheme;
    let calibration = calibration(id, choice)?;
    let count = || {
        let groups = Groups::new(shape, scheme.granularity())?;
        weights::check_calibration(groups, scheme.grid(), calibration)?;
        Ok(groups)
    };
    let groups =
        count().map_err(|source| QuantizeError::Param { id: id.clone(), scheme, source })?;
    let lens = record_lens(shape, scheme, groups.count()).into_iter().flatten();
    Ok(lens.map(|len| len as u64).sum())
}

/// What finds the ranges, if it is at hand.
fn calibration<'a>(id: &ParamId, choice: &'a Choice) -> Result<&'a dyn WeightRange, QuantizeError> {
    choice.calibration.as_deref().ok_or_else(|| {
        let name: String = Cow::clone(&choice.name).into_owned();
        QuantizeError::UnknownCalibration { id: id.clone(), name }
    })
}
