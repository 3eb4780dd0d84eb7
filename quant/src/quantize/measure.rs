//! The bytes and the expected error of quantizing one parameter, or a part of one.

use alloc::vec::Vec;

use super::error::QuantizeError;
use super::fit::{Fitted, fit};
use super::outcome::{Expected, Warning};
use super::planner::Choice;
use super::spread::Spread;
use super::weights;
use crate::kernel::QuantError;
use crate::module::ParamId;
use crate::scheme::QuantizationScheme;
use crate::tensor::{Grain, record_lens};

/// The result of quantizing one tensor, or a part of one.
pub(super) struct Measured {
    pub(super) effect: Effect,
    /// What its codes are computed with.
    pub(super) fitted: Fitted,
}

/// What becomes of a tensor, or of a part of one.
///
/// The effects of all parts [together](Self::and) are those of the whole, whatever the parts are:
/// errors are summed within each grain first, and no grain is divided.
#[derive(Clone, Debug)]
pub struct Effect {
    pub(super) bytes: u64,
    pub(super) non_finite: u64,
    scales: (f32, f32),
    /// The error of each grain.
    errors: Vec<QuantError>,
    pub(super) spread: Option<Spread>,
}

impl Effect {
    /// Of floats that are kept.
    pub(super) fn kept(bytes: u64, non_finite: u64) -> Self {
        Self { bytes, non_finite, scales: (f32::INFINITY, 0.0), errors: Vec::new(), spread: None }
    }

    pub(super) fn with_spread(self, spread: Option<Spread>) -> Self {
        Self { spread, ..self }
    }

    /// The effect of this part and of the next one.
    #[must_use]
    pub fn and(mut self, next: Self) -> Self {
        self.bytes += next.bytes;
        self.non_finite += next.non_finite;
        self.scales = (self.scales.0.min(next.scales.0), self.scales.1.max(next.scales.1));
        self.errors.extend(next.errors);
        self.spread = self.spread.zip(next.spread).map(|(this, next)| this.and(next));
        self
    }

    fn error(&self) -> QuantError {
        self.errors.iter().copied().fold(QuantError::default(), QuantError::and)
    }

    /// `Σ (x - x̂)²`.
    pub(super) fn noise(&self) -> f64 {
        self.error().noise
    }

    /// The warning about another axis, if there is one, for a scheme of the whole tensor.
    pub(super) fn other_axis(
        &self,
        shape: &[usize],
        scheme: QuantizationScheme,
    ) -> Option<Warning> {
        self.spread.as_ref()?.warning(shape, scheme)
    }

    /// The warning about values that are not finite.
    pub(super) fn not_finite(&self) -> Option<Warning> {
        let count = self.non_finite;
        (count > 0).then_some(Warning::NonFinite { count })
    }

    pub(super) fn expected(&self) -> Expected {
        let error = self.error();
        let (sqnr_db, max_abs_error) = (error.sqnr_db(), error.largest);
        Expected { scales: self.scales, sqnr_db, max_abs_error }
    }
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
    let groups = Grain::of(shape, choice.scheme).map_or(usize::MAX, |grain| grain.groups);
    Ok(Measured { effect: effect(bytes, groups, &fitted, values), fitted })
}

/// `grain` is the number of groups over which errors are summed first.
fn effect(bytes: u64, grain: usize, fitted: &Fitted, values: &[f32]) -> Effect {
    let Fitted { groups, params, rounded, .. } = fitted;
    let dequantized = rounded.as_ref().map(|tensor| tensor.dequantize());
    let mut errors = Vec::with_capacity(groups.count().div_ceil(grain));
    let each = weights::for_each_group(*groups, values, |group, values| {
        let error = fitted.error(group, values, dequantized.as_deref());
        match errors.last_mut() {
            Some(sum) if !group.is_multiple_of(grain) => *sum = QuantError::and(*sum, error),
            _ => errors.push(error),
        }
        Ok::<(), core::convert::Infallible>(())
    });
    let Ok(()) = each;
    let least = params.scales().fold(f32::INFINITY, f32::min);
    let scales = (least, params.scales().fold(0.0, f32::max));
    Effect { bytes, non_finite: 0, scales, errors, spread: None }
}
