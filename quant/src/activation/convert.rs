//! From observed activations to static ones, and the walks over the activations of a model.

use alloc::collections::BTreeSet;
use core::fmt;

use super::quantizer::{ActivationMode, ActivationQuantizer};
use crate::module::{ParamId, Site, Walk, for_each, for_each_state, for_each_state_mut};
use crate::scheme::ScaleError;

/// Calls `f` with every activation quantizer of `module`.
pub fn for_each_activation(
    module: &(impl Walk + ?Sized),
    mut f: impl FnMut(Site<'_>, &ActivationQuantizer),
) {
    for_each_state(module, |site, leaf| {
        if let Some(activation) = leaf.downcast_ref() {
            f(site, activation);
        }
    });
}

/// Calls `f` with every activation quantizer of `module`, to be changed in place.
pub fn for_each_activation_mut(
    module: &mut (impl Walk + ?Sized),
    mut f: impl FnMut(Site<'_>, &mut ActivationQuantizer),
) {
    for_each_state_mut(module, |site, leaf| {
        if let Some(activation) = leaf.downcast_mut() {
            f(site, activation);
        }
    });
}

/// Makes every observing quantizer static, or none and says why.
pub fn convert<M: Walk>(mut model: M) -> Result<M, ConvertError> {
    let (mut pending, mut unreached, mut failed) = (Vec::new(), Vec::new(), None);
    for_each_activation(&model, |site, activation| {
        if let ActivationMode::Pending(_) = activation.mode() {
            pending.push(site.path.into());
        }
        match activation.observed() {
            None | Some(Ok(Some(_))) => {}
            Some(Ok(None)) => unreached.push(site.path.into()),
            Some(Err(source)) => {
                failed = Some(ConvertError::Scale { id: site.path.into(), source });
            }
        }
    });
    if !pending.is_empty() {
        return Err(ConvertError::Pending(pending));
    }
    if !unreached.is_empty() {
        return Err(ConvertError::Unreached(unreached));
    }
    if let Some(error) = failed {
        return Err(error);
    }
    for_each_activation_mut(&mut model, |_, activation| activation.convert());
    Ok(model)
}

/// The paths of the quantized parameters of `module`.
pub(crate) fn quantized_paths(module: &(impl Walk + ?Sized)) -> BTreeSet<ParamId> {
    let mut paths = BTreeSet::new();
    for_each(module, |site, param| {
        if param.is_quantized() {
            paths.insert(site.path.into());
        }
    });
    paths
}

/// Makes the input of each layer float whose weights were quantized and now are all float again, so
/// that a dequantized model runs in floats.
pub(crate) fn follow_weights<M: Walk>(mut model: M, before: &BTreeSet<ParamId>) -> M {
    let now = quantized_paths(&model);
    if before.is_subset(&now) {
        return model;
    }
    for_each_activation_mut(&mut model, |site, activation| {
        let layer = site.path.rfind('.').map_or("", |dot| &site.path[..=dot]);
        let has =
            |paths: &BTreeSet<ParamId>| paths.iter().any(|path| path.as_str().starts_with(layer));
        if has(before) && !has(&now) {
            activation.make_float();
        }
    });
    model
}

/// The inputs of a model cannot be made static.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConvertError {
    /// Inputs that are to be quantized, and that were neither prepared nor calibrated: all of
    /// them.
    Pending(Vec<ParamId>),
    /// Inputs that saw no calibration data: all of them.
    Unreached(Vec<ParamId>),
    /// The observed range has no scale.
    Scale {
        /// The path of the activation quantizer.
        id: ParamId,
        /// Why the range has no scale.
        source: ScaleError,
    },
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending(ids) => {
                list(f, ids)?;
                f.write_str(": to be quantized, but neither prepared nor calibrated; call `prepare` or `calibrate` first")
            }
            Self::Unreached(ids) => {
                list(f, ids)?;
                f.write_str(": no calibration data reached this input")
            }
            Self::Scale { id, .. } => write!(f, "{id}: the observed range has no scale"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, ids: &[ParamId]) -> fmt::Result {
    for (i, id) in ids.iter().enumerate() {
        write!(f, "{}{id}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl core::error::Error for ConvertError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Pending(_) | Self::Unreached(_) => None,
            Self::Scale { source, .. } => Some(source),
        }
    }
}
