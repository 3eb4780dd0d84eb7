//! Preparing and calibrating the inputs of layers.

use alloc::collections::BTreeMap;
use core::fmt;

use super::apply::{keep_key_values, quantize_weights};
use super::decide::{decide, decide_activations, decide_key_values};
use super::error::QuantizeError;
use super::planner::Planner;
use crate::activation::{ConvertError, convert, for_each_activation_mut};
use crate::module::{ParamId, Walk};
use crate::scheme::ActivationScheme;

/// Quantizes weights and prepares inputs.
pub(crate) fn quantize<M: Walk>(planner: &impl Planner, model: M) -> Result<M, QuantizeError> {
    let decided = decide(planner, &model)?;
    let activations = decide_activations(planner, &model, &decided)?;
    let is_static = |scheme| matches!(scheme, ActivationScheme::Static { .. });
    let uncalibrated: Vec<ParamId> = activations
        .into_iter()
        .filter(|planned| is_static(planned.scheme))
        .map(|planned| planned.id)
        .collect();
    if !uncalibrated.is_empty() {
        return Err(QuantizeError::Uncalibrated(uncalibrated));
    }
    prepare(planner, quantize_weights(planner, model)?)
}

/// Quantizes weights, and calibrates and converts inputs.
pub(crate) fn quantize_with<M: Walk, B, T, E>(
    planner: &impl Planner,
    model: M,
    batches: impl IntoIterator<Item = B>,
    forward: impl FnMut(&M, B) -> Result<T, E>,
) -> Result<M, CalibrateError<E>> {
    let model = quantize_weights(planner, model).map_err(CalibrateError::Recipe)?;
    let model = calibrate(planner, model, batches, forward)?;
    convert(model).map_err(CalibrateError::Convert)
}

/// Gives every quantizer of inputs, keys and values of `model` the mode that the planner says.
pub fn prepare<M: Walk>(
    planner: &(impl Planner + ?Sized),
    mut model: M,
) -> Result<M, QuantizeError> {
    let decided = decide(planner, &model)?;
    let planned = decide_activations(planner, &model, &decided)?;
    let key_values = decide_key_values(planner, &model)?;
    let mut planned: BTreeMap<_, _> =
        planned.into_iter().map(|planned| (planned.id.clone(), planned)).collect();
    for_each_activation_mut(&mut model, |site, activation| {
        if let Some(planned) = planned.remove(site.path) {
            let skip = planner.skips_non_finite();
            activation.prepare(planned.id, planned.scheme, planned.calibration, skip);
        }
    });
    keep_key_values(&mut model, &key_values);
    match planned.into_keys().next() {
        None => Ok(model),
        Some(id) => Err(QuantizeError::InconsistentWalk { id }),
    }
}

/// Prepares `model` and shows it every batch.
pub(crate) fn calibrate<M: Walk, B, T, E>(
    planner: &(impl Planner + ?Sized),
    model: M,
    batches: impl IntoIterator<Item = B>,
    mut forward: impl FnMut(&M, B) -> Result<T, E>,
) -> Result<M, CalibrateError<E>> {
    let mut model = prepare(planner, model).map_err(CalibrateError::Recipe)?;
    for (batch, data) in batches.into_iter().enumerate() {
        forward(&model, data).map_err(|source| CalibrateError::Forward { batch, source })?;
    }
    for_each_activation_mut(&mut model, |_, activation| activation.end_calibration());
    Ok(model)
}

/// A model could not be calibrated.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CalibrateError<E> {
    /// The recipe does not fit the model.
    Recipe(QuantizeError),
    /// The forward pass failed.
    Forward {
        /// The position of the batch, from 0.
        batch: usize,
        /// The error of the forward pass.
        source: E,
    },
    /// The inputs could not be made static.
    Convert(ConvertError),
}

impl<E: fmt::Display> fmt::Display for CalibrateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipe(_) => f.write_str("the recipe does not fit the model"),
            Self::Forward { batch, source } => write!(f, "batch {batch}: {source}"),
            Self::Convert(_) => f.write_str("the inputs could not be made static"),
        }
    }
}

/// An error of the forward pass need not be an `Error`: a `Box<dyn Error>` will do. It is part of
/// the message then, and not a source.
impl<E: fmt::Debug + fmt::Display> core::error::Error for CalibrateError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Recipe(error) => Some(error),
            Self::Forward { .. } => None,
            Self::Convert(error) => Some(error),
        }
    }
}
