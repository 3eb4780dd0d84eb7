//! What a planner sees and decides.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::error::QuantizeError;
use super::experts::scheme_for;
use super::outcome::{PlannedActivation, PlannedKeyValues, Reason};
use super::weights::{WeightError, WeightRange};
use crate::calibration::Calibration;
use crate::module::{Directive, ParamId, ParamInfo};
use crate::moments::{MomentSource, ParamMoments};
use crate::scheme::{Axis, QuantizationScheme};
use crate::tensor::{Grain, common_grain};

/// Decides how each parameter of a model is quantized: a [`Quantizer`](crate::Quantizer) or a
/// [`Recipe`](crate::Recipe).
pub trait Planner {
    /// A decision for each of `candidates`, in their order.
    ///
    /// Candidates without elements, and quantized ones, are included, so that a rule that matches one
    /// of them has an effect. Decisions about them are ignored.
    ///
    /// # Errors
    /// The planner's rules do not fit the model.
    fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError>;

    /// How the inputs at these paths are quantized, in their order. A planner that decides about
    /// weights only, which is the default, returns nothing, and inputs stay as they are.
    ///
    /// # Errors
    /// The planner's rules do not fit the model.
    fn decide_activations(&self, _: &[ParamId]) -> Result<Vec<PlannedActivation>, QuantizeError> {
        Ok(Vec::new())
    }

    /// How attention keeps keys and values at these paths, in their order. The default returns nothing,
    /// and they stay as they are.
    ///
    /// # Errors
    /// The planner's rules do not fit the model.
    fn decide_key_values(&self, _: &[ParamId]) -> Result<Vec<PlannedKeyValues>, QuantizeError> {
        Ok(Vec::new())
    }

    /// The second moments of the inputs of layers, for calibrations that need them. Default: none.
    fn moments(&self) -> Option<Arc<dyn MomentSource>> {
        None
    }

    /// Whether calibration leaves out values that are NaN or infinite, and counts them, where
    /// they would be an error. Default: no.
    fn skips_non_finite(&self) -> bool {
        false
    }
}

macro_rules! by_reference {
    ($($reference:ty),*) => {$(
        impl<P: Planner + ?Sized> Planner for $reference {
            fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError> {
                (**self).decide(candidates)
            }

            fn decide_activations(
                &self,
                ids: &[ParamId],
            ) -> Result<Vec<PlannedActivation>, QuantizeError> {
                (**self).decide_activations(ids)
            }

            fn decide_key_values(
                &self,
                ids: &[ParamId],
            ) -> Result<Vec<PlannedKeyValues>, QuantizeError> {
                (**self).decide_key_values(ids)
            }

            fn moments(&self) -> Option<Arc<dyn MomentSource>> {
                (**self).moments()
            }

            fn skips_non_finite(&self) -> bool {
                (**self).skips_non_finite()
            }
        }
    )*};
}

by_reference! { &P, &mut P }

/// A parameter that may be quantized.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Path, shape and type.
    pub info: ParamInfo,
    /// The directive of the innermost field that has one.
    pub directive: Option<Directive>,
}

impl Candidate {
    /// A parameter of a file, which has no attributes.
    pub fn new(
        id: impl Into<ParamId>,
        shape: impl Into<Vec<usize>>,
        scheme: Option<QuantizationScheme>,
    ) -> Self {
        let (id, shape, outputs) = (id.into(), shape.into(), Axis::FIRST);
        let info = ParamInfo { id, shape, scheme, outputs };
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

    /// The reason for it.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Whether the parameter is to be quantized.
    pub fn is_quantized(&self) -> bool {
        self.choice.is_some()
    }

    /// The decision of the attribute or, without one, of the rank.
    pub(super) fn by_default(candidate: &Candidate, choice: &Choice) -> Self {
        match candidate.directive {
            Some(Directive::Keep) => Self::keep(Reason::Attribute),
            Some(Directive::Quantize) => {
                Self { choice: Some(choice.clone()), reason: Reason::Attribute }
            }
            Some(Directive::Scheme(scheme)) => {
                let choice = Choice { scheme, ..choice.clone() };
                Self { choice: Some(choice), reason: Reason::Attribute }
            }
            None => Self::by_rank(&candidate.info, choice),
        }
    }

    /// The decision of the rank, and for experts of the name.
    fn by_rank(info: &ParamInfo, choice: &Choice) -> Self {
        let rank = info.shape.len();
        if rank < 2 {
            return Self::keep(Reason::Rank(rank));
        }
        let scheme = scheme_for(info, choice.scheme);
        let reason = if scheme == choice.scheme { Reason::Rank(rank) } else { Reason::Experts };
        Self { choice: Some(Choice { scheme, ..choice.clone() }), reason }
    }
}

/// A scheme and a calibration.
#[derive(Clone)]
pub struct Choice {
    pub(super) scheme: QuantizationScheme,
    /// The calibration's name.
    pub(super) name: Cow<'static, str>,
    pub(super) calibration: Option<Arc<dyn WeightRange>>,
    /// The second moments of the inputs that the parameter is multiplied with, if they are known.
    pub(super) moments: Option<ParamMoments>,
}

impl Choice {
    pub(super) fn new(
        scheme: QuantizationScheme,
        calibration: impl Calibration + Send + Sync + 'static,
    ) -> Self {
        let name = calibration.name();
        Self { scheme, name, calibration: Some(Arc::new(calibration)), moments: None }
    }

    /// With the second moments for a parameter, if the calibration needs them.
    pub(super) fn with_moments(
        mut self,
        id: &ParamId,
        moments: Option<&Arc<dyn MomentSource>>,
    ) -> Self {
        let needs = |by: &Arc<dyn WeightRange>| by.weight_method().needs_moments();
        if self.calibration.as_ref().is_some_and(needs) {
            self.moments = moments.and_then(|moments| ParamMoments::of(moments, id));
        }
        self
    }

    /// Checks that the moments are those of the inputs of a parameter.
    pub(super) fn check_moments(&self, info: &ParamInfo) -> Result<(), QuantizeError> {
        let inputs = info.shape.iter().skip(1).product();
        match &self.moments {
            Some(moments) if moments.columns() != inputs => {
                let (expected, found) = (inputs, moments.columns());
                let source = WeightError::MomentColumns { expected, found };
                Err(QuantizeError::Param { id: info.id.clone(), scheme: self.scheme, source })
            }
            _ => Ok(()),
        }
    }

    /// The number of elements at multiples of which a part of a tensor may start; `None` if it cannot be
    /// divided.
    pub(super) fn grain(&self, shape: &[usize]) -> Option<usize> {
        let grain = Grain::of(shape, self.scheme).map(|grain| grain.elements);
        match &self.moments {
            // The rows that moments are of are rounded as a whole.
            Some(moments) => common_grain(grain, Some(moments.columns())),
            None => grain,
        }
    }

    /// The bytes of the second moments, and of a factor of them, while they are used.
    pub(super) fn moment_bytes(&self) -> u64 {
        self.moments.as_ref().map_or(0, ParamMoments::bytes)
    }

    /// The scheme, and what finds its ranges, if that is at hand.
    pub fn parts(&self) -> Option<(QuantizationScheme, Arc<dyn WeightRange>)> {
        Some((self.scheme, self.calibration.clone()?))
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
