//! Why the outputs of two models cannot be compared.

use core::fmt;

use crate::module::ParamId;
use crate::tensor::TensorError;

/// The layers of two models could not be compared.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CompareError<E> {
    /// A forward pass failed.
    Forward {
        /// The position of the batch, from 0.
        batch: usize,
        /// The error of the forward pass.
        source: E,
    },
    /// Only one of the models has this layer.
    OtherLayers {
        /// The layer.
        id: ParamId,
    },
    /// An output of one of the models is NaN or infinite.
    NonFinite {
        /// The layer.
        id: ParamId,
        /// The position of the batch, from 0.
        batch: usize,
    },
    /// A layer ran more often in one model, or had more outputs; or it has a bias of another length.
    Outputs {
        /// The layer.
        id: ParamId,
        /// The position of the batch, from 0.
        batch: usize,
    },
    /// The bias of a layer cannot be changed.
    Bias {
        /// The bias.
        id: ParamId,
        /// Why.
        source: TensorError,
    },
}

impl<E: fmt::Display> fmt::Display for CompareError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { batch, source } => write!(f, "batch {batch}: {source}"),
            Self::OtherLayers { id } => write!(f, "{id}: only one of the models has this layer"),
            Self::NonFinite { id, batch } => {
                write!(f, "{id}: outputs for batch {batch} are NaN or infinite")
            }
            Self::Outputs { id, batch } => {
                write!(f, "{id}: the models have other numbers of outputs for batch {batch}")
            }
            Self::Bias { id, .. } => write!(f, "{id}: the bias cannot be corrected"),
        }
    }
}

/// The error of the forward pass is part of the message, as it need not be an `Error`.
impl<E: fmt::Debug + fmt::Display> core::error::Error for CompareError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Bias { source, .. } => Some(source),
            _ => None,
        }
    }
}
