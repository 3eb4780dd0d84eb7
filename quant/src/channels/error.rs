//! Why factors cannot move.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::module::ParamId;
use crate::moments::MomentsError;
use crate::quantize::WeightError;
use crate::scheme::QuantizationScheme;

/// Factors cannot move between the layers of a pair. The model is as before.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RescaleError {
    /// The model has no such parameter.
    Missing {
        /// The parameter.
        id: ParamId,
    },
    /// The parameter is quantized. Factors move before a model is quantized.
    Quantized {
        /// The parameter.
        id: ParamId,
    },
    /// The parameter does not have the channels of the first layer.
    Channels {
        /// The parameter.
        id: ParamId,
        /// Its shape.
        shape: Vec<usize>,
        /// The number of outputs of the first layer.
        channels: usize,
    },
    /// The pair has no layers that take the outputs, or the first layer is one of them.
    Pair {
        /// The first layer.
        id: ParamId,
    },
    /// A value of the parameter is NaN or infinite, or would become so.
    NonFinite {
        /// The parameter.
        id: ParamId,
    },
    /// The model has no such state, or the state is not a ceiling of as many channels.
    Ceiling {
        /// The state.
        id: ParamId,
        /// Why.
        reason: String,
    },
    /// There are no second moments of the inputs of a layer, or they have other columns.
    Moments {
        /// The layer.
        id: ParamId,
        /// Why they cannot be read; `None` if there are none that fit.
        source: Option<MomentsError>,
    },
    /// The weight cannot be quantized, so that the error of a factor is not known.
    Weight {
        /// The parameter.
        id: ParamId,
        /// With which scheme.
        scheme: QuantizationScheme,
        /// Why.
        source: WeightError,
    },
    /// The exponent is not one from 0 to 1.
    Exponent {
        /// The exponent.
        value: f64,
    },
}

impl fmt::Display for RescaleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { id } => write!(f, "{id}: the model has no such parameter"),
            Self::Quantized { id } => {
                write!(f, "{id}: the parameter is quantized; move factors before you quantize")
            }
            Self::Channels { id, shape, channels } => {
                write!(f, "{id}: shape {shape:?} does not take {channels} channels")
            }
            Self::Pair { id } => {
                write!(f, "{id}: a pair needs other layers that take the outputs of this one")
            }
            Self::NonFinite { id } => {
                write!(f, "{id}: a value is NaN or infinite, or becomes so by its factor")
            }
            Self::Ceiling { id, reason } => write!(f, "{id}: {reason}"),
            Self::Moments { id, source: None } => {
                write!(f, "{id}: there are no second moments of the inputs of this layer")
            }
            Self::Moments { id, source: Some(_) } => {
                write!(f, "{id}: the second moments cannot be read")
            }
            Self::Weight { id, scheme, .. } => write!(f, "{id}: cannot be quantized as {scheme}"),
            Self::Exponent { value } => {
                write!(f, "the exponent is {value}, and must be one from 0 to 1")
            }
        }
    }
}

impl core::error::Error for RescaleError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Moments { source: Some(source), .. } => Some(source),
            Self::Weight { source, .. } => Some(source),
            _ => None,
        }
    }
}
