//! What a planner sees and decides.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::weights::WeightRange;
use super::{QuantizeError, Reason};
use crate::calibration::{Calibration, CalibrationMethod};
use crate::module::{Directive, ParamId, ParamInfo};
use crate::scheme::QuantizationScheme;

/// Decides how each parameter of a model is quantized: a [`Quantizer`](crate::Quantizer) or a
/// [`Recipe`](crate::Recipe).
pub trait Planner {
    /// A decision for each of `candidates`, in their order.
    ///
    /// Candidates that have no elements or are quantized already are among them, so that a rule
    /// which matches one has matched; what is decided about them is not carried out.
    ///
    /// # Errors
    /// The planner's rules do not fit the model.
    fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError>;
}

/// A parameter that may be quantized.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Path, shape and type.
    pub info: ParamInfo,
    /// The innermost attribute that stands over it.
    pub directive: Option<Directive>,
}

impl Candidate {
    /// A parameter that stands in a file, where it has no attributes.
    pub fn new(
        id: impl Into<ParamId>,
        shape: impl Into<Vec<usize>>,
        scheme: Option<QuantizationScheme>,
    ) -> Self {
        let info = ParamInfo { id: id.into(), shape: shape.into(), scheme };
        Self { info, directive: None }
    }
}

/// What is to become of a parameter, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    pub(super) choice: Option<Choice>,
    pub(super) reason: Reason,
}

impl Decision {
    /// Keep the parameter float.
    pub fn keep(reason: Reason) -> Self {
        Self { choice: None, reason }
    }

    /// Quantize it.
    pub fn quantize(
        scheme: QuantizationScheme,
        calibration: impl Calibration + Send + Sync + 'static,
        reason: Reason,
    ) -> Self {
        Self { choice: Some(Choice::new(scheme, calibration)), reason }
    }

    /// What an attribute or, without one, the rank asks for.
    pub(super) fn by_default(candidate: &Candidate, choice: &Choice) -> Self {
        let rank = candidate.info.shape.len();
        match candidate.directive {
            Some(Directive::Keep) => Self::keep(Reason::Attribute),
            Some(Directive::Quantize) => {
                Self { choice: Some(choice.clone()), reason: Reason::Attribute }
            }
            Some(Directive::Scheme(scheme)) => {
                let choice = Choice { scheme, ..choice.clone() };
                Self { choice: Some(choice), reason: Reason::Attribute }
            }
            None => {
                Self { choice: (rank >= 2).then(|| choice.clone()), reason: Reason::Rank(rank) }
            }
        }
    }
}

/// A scheme, and how its ranges are found.
#[derive(Clone)]
pub(crate) struct Choice {
    pub(super) scheme: QuantizationScheme,
    /// The calibration's name.
    pub(super) name: Cow<'static, str>,
    pub(super) calibration: Option<Arc<dyn WeightRange>>,
}

impl Choice {
    pub(super) fn new(
        scheme: QuantizationScheme,
        calibration: impl Calibration + Send + Sync + 'static,
    ) -> Self {
        let name = calibration.name();
        Self { scheme, name, calibration: Some(Arc::new(calibration)) }
    }

    /// The scheme, and what finds its ranges, if that is at hand.
    #[cfg(feature = "candle")]
    pub(crate) fn parts(&self) -> Option<(QuantizationScheme, Arc<dyn WeightRange>)> {
        Some((self.scheme, self.calibration.clone()?))
    }

    /// The choice that a plan has written down: one that was read from a file has the
    /// calibration's name only.
    pub(super) fn planned(
        scheme: QuantizationScheme,
        name: Cow<'static, str>,
        calibration: &PlannedCalibration,
    ) -> Self {
        let by_name = || -> Option<Arc<dyn WeightRange>> {
            Some(Arc::new(name.parse::<CalibrationMethod>().ok()?))
        };
        let calibration = calibration.0.clone().or_else(by_name);
        Self { scheme, name, calibration }
    }

    pub(super) fn to_planned(&self) -> PlannedCalibration {
        PlannedCalibration(self.calibration.clone())
    }
}

/// The calibration of a planned parameter, whose name stands beside it.
///
/// A plan made in this process has it, so that one of the user's own can be applied; it takes no
/// part in comparing, printing and serializing.
#[derive(Clone, Default)]
pub(super) struct PlannedCalibration(Option<Arc<dyn WeightRange>>);

impl PartialEq for PlannedCalibration {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for PlannedCalibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "at hand" } else { "by name" })
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.scheme, self.name)
    }
}

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.name == other.name
    }
}
