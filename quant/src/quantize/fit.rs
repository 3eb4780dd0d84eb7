//! The scale and zero point of each group of a parameter.

use alloc::borrow::Cow;
use alloc::string::String;

use super::error::QuantizeError;
use super::planner::Choice;
use super::weights::{self, GroupParams, WeightRange};
use crate::module::ParamId;
use crate::scheme::{Groups, QuantizationScheme};
use crate::tensor::{QuantizedTensor, record_lens};

/// What the codes of a parameter are computed with.
#[derive(Clone)]
pub(crate) struct Fitted {
    pub(super) scheme: QuantizationScheme,
    pub(super) groups: Groups,
    pub(super) params: GroupParams,
}

impl Fitted {
    /// The codes of `values`, a tensor of this shape.
    pub(super) fn quantize(&self, shape: &[usize], values: &[f32]) -> QuantizedTensor {
        self.params.quantize(shape, self.scheme, self.groups, values)
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
        let params = weights::group_params(groups, scheme.grid(), values, calibration)?;
        Ok(Fitted { scheme, groups, params })
    };
    fit().map_err(|source| QuantizeError::Param { id: id.clone(), scheme, source })
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
