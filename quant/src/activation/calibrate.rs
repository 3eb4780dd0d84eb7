//! From float activations to observed ones to static ones.

use core::fmt;

use super::ActivationQuantizer;
use crate::module::{Module, ParamId, for_each_activation, for_each_activation_mut};
use crate::quantize::{QuantizeError, Recipe};
use crate::scheme::ScaleError;

/// Gives every activation quantizer of `model` the mode that the recipe says.
pub(crate) fn prepare<M: Module>(mut model: M, recipe: &Recipe) -> Result<M, QuantizeError> {
    let mut ids: Vec<ParamId> = Vec::new();
    for_each_activation(&model, |site, _| ids.push(site.path.into()));
    recipe.check_activation_rules(&ids)?;
    for_each_activation_mut(&mut model, |site, activation| {
        let decided = recipe.decide_activation(site.path.into());
        let skip = recipe.skips_non_finite();
        activation.prepare(decided.id, decided.scheme, decided.calibration, skip);
    });
    Ok(model)
}

/// Prepares `model` and shows it every batch.
pub(crate) fn calibrate<M: Module, B, T, E>(
    model: M,
    recipe: &Recipe,
    batches: impl IntoIterator<Item = B>,
    mut forward: impl FnMut(&M, B) -> Result<T, E>,
) -> Result<M, CalibrateError<E>> {
    let model = prepare(model, recipe).map_err(CalibrateError::Recipe)?;
    for (batch, data) in batches.into_iter().enumerate() {
        forward(&model, data).map_err(|source| CalibrateError::Forward { batch, source })?;
    }
    Ok(model)
}

/// Makes every observing quantizer static, or none and says why.
pub(crate) fn convert<M: Module>(mut model: M) -> Result<M, ConvertError> {
    let mut unreached = Vec::new();
    let mut failed = None;
    for_each_activation(&model, |site, activation| match activation.observed() {
        None | Some(Ok(Some(_))) => {}
        Some(Ok(None)) => unreached.push(site.path.into()),
        Some(Err(source)) => failed = Some(ConvertError::Scale { id: site.path.into(), source }),
    });
    if !unreached.is_empty() {
        return Err(ConvertError::Unreached(unreached));
    }
    if let Some(error) = failed {
        return Err(error);
    }
    for_each_activation_mut(&mut model, |_, activation: &mut ActivationQuantizer| {
        activation.convert();
    });
    Ok(model)
}

/// A model could not be calibrated.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CalibrateError<E> {
    /// The recipe's rules do not fit the model.
    Recipe(QuantizeError),
    /// The forward pass failed.
    Forward {
        /// The number of the batch, from 0.
        batch: usize,
        /// Why.
        source: E,
    },
}

impl<E: fmt::Display> fmt::Display for CalibrateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipe(error) => error.fmt(f),
            Self::Forward { batch, source } => write!(f, "batch {batch}: {source}"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for CalibrateError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Recipe(error) => Some(error),
            Self::Forward { source, .. } => Some(source),
        }
    }
}

/// Observed activations cannot be made static.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConvertError {
    /// The calibration data never reached these: all of them.
    Unreached(Vec<ParamId>),
    /// The range that was observed has no scale.
    Scale {
        /// The activation.
        id: ParamId,
        /// Why.
        source: ScaleError,
    },
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreached(ids) => {
                f.write_str("no calibration data reached")?;
                for (i, id) in ids.iter().enumerate() {
                    write!(f, "{} {id}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Scale { id, source } => write!(f, "{id}: {source}"),
        }
    }
}

impl core::error::Error for ConvertError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Unreached(_) => None,
            Self::Scale { source, .. } => Some(source),
        }
    }
}
