//! The scale and zero point of each group of a parameter.

use alloc::borrow::Cow;
use alloc::string::String;

use super::error::QuantizeError;
use super::planner::Choice;
use super::weights::{self, GroupParams};
use crate::module::ParamId;
use crate::scheme::{Groups, QuantizationScheme};
use crate::tensor::QuantizedTensor;

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
    let Choice { scheme, name, calibration } = choice;
    let Some(calibration) = calibration else {
        let name: String = Cow::clone(name).into_owned();
        return Err(QuantizeError::UnknownCalibration { id: id.clone(), name });
    };
    let fit = || {
        let groups = Groups::new(shape, scheme.granularity())?;
        let params = weights::group_params(groups, scheme.grid(), values, &**calibration)?;
        Ok(Fitted { scheme: *scheme, groups, params })
    };
    fit().map_err(|source| QuantizeError::Param { id: id.clone(), scheme: *scheme, source })
}
