//! From observed activations to static ones, and the walks over the activations of a model.

use core::fmt;

use super::quantizer::{ActivationMode, ActivationQuantizer};
use crate::module::{ParamId, Site, Walk, for_each_state, for_each_state_mut};
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
