//! What an activation quantizer has seen.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::calibration::{AnyObserver, Calibration, CalibrationMethod, Observer};
use crate::scheme::{
    ActivationMapping, Grid, NonFinite, QuantParams, QuantizationType, Range, ScaleError, ScaleType,
};

/// The values seen so far, and the codes their range is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub(super) ty: QuantizationType,
    pub(super) mapping: ActivationMapping,
    pub(super) method: CalibrationMethod,
    pub(super) observer: AnyObserver,
    /// Leave non-finite values out and count them, where they would be an error.
    pub(super) skip_non_finite: bool,
    pub(super) skipped: u64,
}

impl Observation {
    pub(super) fn new(
        ty: QuantizationType,
        mapping: ActivationMapping,
        method: CalibrationMethod,
        skip_non_finite: bool,
    ) -> Self {
        Self { ty, mapping, method, observer: method.observer(), skip_non_finite, skipped: 0 }
    }

    pub(super) fn observe(&mut self, values: &[f32]) -> Result<(), NonFinite> {
        match self.observer.observe(values) {
            Err(_) if self.skip_non_finite => {
                let finite: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
                self.skipped = self.skipped.saturating_add((values.len() - finite.len()) as u64);
                self.observer.observe(&finite)
            }
            result => result,
        }
    }

    /// The codes that the range is for, with scales of f32.
    pub fn grid(&self) -> Grid {
        Grid::new(self.ty, self.mapping.into(), ScaleType::F32)
    }

    /// The range of the values seen; `None` if there were none.
    pub fn range(&self) -> Option<Range> {
        self.method.range(&self.observer, self.grid())
    }

    /// The scale and zero point of the range; `None` if no values were seen.
    pub(super) fn params(&self) -> Option<Result<QuantParams, ScaleError>> {
        self.range().map(|range| self.grid().params(range))
    }

    pub(super) fn is_for(
        &self,
        ty: QuantizationType,
        mapping: ActivationMapping,
        method: CalibrationMethod,
    ) -> bool {
        (self.ty, self.mapping, self.method) == (ty, mapping, method)
    }
}

/// The observation behind its lock. An observer is unchanged by a batch that panicked.
pub(super) fn locked(observation: &Mutex<Observation>) -> MutexGuard<'_, Observation> {
    observation.lock().unwrap_or_else(PoisonError::into_inner)
}
