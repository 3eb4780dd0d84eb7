//! What a plan keeps of the calibration of a parameter.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use core::fmt;

use super::fit::Fitted;
use super::planner::Choice;
use super::weights::WeightRange;
use crate::calibration::CalibrationMethod;
use crate::moments::ParamMoments;
use crate::scheme::QuantizationScheme;

/// The calibration of a planned parameter, whose name is beside it, and what it found.
///
/// A plan made in this process has both, so that a user's own calibration can be applied, and
/// none is repeated. They take no part in comparing, printing and serializing.
#[derive(Clone, Default)]
pub(super) struct PlannedCalibration {
    method: Option<Arc<dyn WeightRange>>,
    moments: Option<ParamMoments>,
    /// With the checksum of the values it was found for.
    fitted: Option<(u32, Arc<Fitted>)>,
}

impl PlannedCalibration {
    /// The calibration of `choice`.
    pub(super) fn of(choice: &Choice) -> Self {
        let (method, moments) = (choice.calibration.clone(), choice.moments.clone());
        Self { method, moments, fitted: None }
    }

    /// The choice that a plan names. A plan that was read from a file has only the name.
    pub(super) fn choice(&self, scheme: QuantizationScheme, name: Cow<'static, str>) -> Choice {
        let by_name = || -> Option<Arc<dyn WeightRange>> {
            Some(Arc::new(name.parse::<CalibrationMethod>().ok()?))
        };
        let calibration = self.method.clone().or_else(by_name);
        Choice { scheme, name, calibration, moments: self.moments.clone() }
    }

    /// Keeps what was found for `values`.
    pub(super) fn keep(&mut self, fitted: Fitted, values: &[f32]) {
        self.fitted = Some((checksum(values), Arc::new(fitted)));
    }

    /// What was found, if `values` are still what it was found for.
    pub(super) fn fitted(&self, values: &[f32]) -> Option<Fitted> {
        let (crc32, fitted) = self.fitted.as_ref()?;
        (checksum(values) == *crc32).then(|| Fitted::clone(fitted))
    }
}

fn checksum(values: &[f32]) -> u32 {
    crc32fast::hash(bytemuck::cast_slice(values))
}

impl PartialEq for PlannedCalibration {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for PlannedCalibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.method.is_some() { "at hand" } else { "by name" })
    }
}
