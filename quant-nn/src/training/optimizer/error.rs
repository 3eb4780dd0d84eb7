//! Why an optimizer does not make a step.

use core::fmt;

use quant::ParamId;
use quant::scheme::{NonFinite, ScaleError};

/// A step cannot be made. No variable has moved, and the optimizer is what it was, unless a device
/// failed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptimizerError {
    /// The model has no parameter that is a variable of candle.
    NoVariables,
    /// The rate is NaN or infinite.
    Rate {
        /// The rate.
        rate: f64,
    },
    /// The model that the optimizer was made for has no such variable, or one of another shape.
    UnknownParam {
        /// The variable.
        id: ParamId,
    },
    /// A gradient is NaN or infinite.
    NonFinite {
        /// The variable.
        id: ParamId,
        /// The value, and its position in the gradient.
        source: NonFinite,
    },
    /// The step would make a variable, or what the optimizer keeps of it, NaN or infinite: the rate
    /// is too large, or the training diverges.
    Diverged {
        /// The variable.
        id: ParamId,
        /// The value, and its position in the variable.
        source: NonFinite,
    },
    /// The step would make a learned scale one that quantizes nothing: 0, subnormal, infinite or NaN.
    Scale {
        /// The scale.
        id: ParamId,
        /// What it would be.
        source: ScaleError,
    },
    /// The optimizer's own state was quantized.
    Quantized,
    /// An operation of candle failed.
    Backend {
        /// The variable.
        id: ParamId,
        /// The message of candle.
        reason: String,
    },
}

impl fmt::Display for OptimizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVariables => f.write_str("the model has no parameter that is a variable"),
            Self::Rate { rate } => write!(f, "the rate is not finite: {rate}"),
            Self::UnknownParam { id } => {
                write!(f, "{id}: the optimizer was made for a model without this variable")
            }
            Self::NonFinite { id, .. } => write!(f, "{id}: the gradient is not finite"),
            Self::Diverged { id, .. } => {
                write!(f, "{id}: the step leads out of the finite numbers")
            }
            Self::Scale { id, .. } => write!(f, "{id}: the step makes the learned scale invalid"),
            Self::Quantized => f.write_str("the optimizer's state is quantized"),
            Self::Backend { id, reason } => write!(f, "{id}: {reason}"),
        }
    }
}

impl core::error::Error for OptimizerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NonFinite { source, .. } | Self::Diverged { source, .. } => Some(source),
            Self::Scale { source, .. } => Some(source),
            _ => None,
        }
    }
}
