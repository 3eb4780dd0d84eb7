//! Why training does not go on.

use core::fmt;

use crate::layers::FoldError;
use crate::train_state::phase::Phase;
use quant::ParamId;
use quant::activation::ConvertError;
use quant::quantize::WeightError;
use quant::scheme::ScaleError;
use quant::tensor::TensorError;
use quant::{QuantizeError, RecordError};

/// Training cannot begin, enter a phase, or end.
#[derive(Debug)]
#[non_exhaustive]
pub enum QatError {
    /// The recipe does not fit the model.
    Recipe(QuantizeError),
    /// The recipe quantizes no parameter of the model.
    Nothing,
    /// The scales of a weight or an activation cannot be trained.
    Untrainable {
        /// The path of the weight or of the activation quantizer.
        id: ParamId,
        /// What is wrong with its storage.
        source: TensorError,
    },
    /// The call belongs to another phase.
    Phase {
        /// The phase of the training.
        found: Phase,
        /// The phase from which the call is possible.
        needed: Phase,
        /// The phase that the call enters.
        to: Phase,
    },
    /// Activations that are to be static observed no values: all of them.
    Unreached(Vec<ParamId>),
    /// A norm cannot be folded.
    Fold(FoldError),
    /// A weight cannot be quantized.
    Weight {
        /// The path of the weight.
        id: ParamId,
        /// Which of its values or scales cannot be quantized.
        source: WeightError,
    },
    /// The learned scale of an input quantizes nothing.
    Scale {
        /// The path of the activation quantizer.
        id: ParamId,
        /// The scale.
        source: ScaleError,
    },
    /// An activation cannot be made static.
    Convert(ConvertError),
    /// A record cannot be written or loaded.
    Record(RecordError),
    /// The record is not a checkpoint: it does not name a phase.
    NoCheckpoint,
    /// The phase of an activation in the checkpoint is not that of the model.
    MixedPhases {
        /// The path of the activation quantizer.
        id: ParamId,
    },
}

impl fmt::Display for QatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipe(_) => f.write_str("the recipe does not fit the model"),
            Self::Nothing => f.write_str("the recipe quantizes no parameter of the model"),
            Self::Untrainable { id, .. } => write!(f, "{id}: cannot be trained with quantization"),
            Self::Phase { found, needed, to } => {
                write!(f, "`{to}` follows the phase `{needed}`, but training is in `{found}`")
            }
            Self::Unreached(ids) => {
                for (i, id) in ids.iter().enumerate() {
                    write!(f, "{}{id}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(": no training data reached this input")
            }
            Self::Fold(error) => error.fmt(f),
            Self::Weight { id, .. } => write!(f, "{id}: the weight cannot be quantized"),
            Self::Scale { id, .. } => write!(f, "{id}: the scale of the input is invalid"),
            Self::Convert(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
            Self::NoCheckpoint => f.write_str("the record is not a checkpoint of a training"),
            Self::MixedPhases { id } => {
                write!(f, "{id}: the checkpoint has this input in another phase than the model")
            }
        }
    }
}

impl core::error::Error for QatError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Recipe(error) => Some(error),
            Self::Untrainable { source, .. } => Some(source),
            Self::Weight { source, .. } => Some(source),
            Self::Scale { source, .. } => Some(source),
            // Printed as this error, so the next layer is the source of that error.
            Self::Fold(error) => error.source(),
            Self::Convert(error) => error.source(),
            Self::Record(error) => error.source(),
            _ => None,
        }
    }
}
