//! Why a layer cannot run.

use core::fmt;

use quant::ParamId;
use quant::activation::ActivationError;
use quant::quantize::WeightError;
use quant::scheme::ScaleError;
use quant::tensor::TensorError;
use quant_kernels::{AttentionError, ConvError, FloatError, KernelUnavailable, LinearError};

use crate::weights::PackWeightsError;

/// A layer cannot run.
///
/// `layer` is the path of the layer. A layer whose input was never prepared for quantization does
/// not know its path, and an operation without an activation quantizer has none: it is the
/// operation then, such as `linear` or `embedding`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ForwardError {
    /// The input cannot be quantized or observed.
    Activation(ActivationError),
    /// A tensor does not have the shape that the layer needs.
    Shape {
        /// The layer.
        layer: ParamId,
        /// The tensor and its shape, in words: `an input of shape […, 3]`.
        expected: String,
        /// The tensor's shape.
        found: Vec<usize>,
    },
    /// The weight cannot be packed for the kernels, or no kernel executes its scheme.
    Pack {
        /// The layer.
        layer: ParamId,
        /// What the kernels refuse.
        source: PackWeightsError,
    },
    /// The integer product refused its arguments.
    Product {
        /// The layer.
        layer: ParamId,
        /// What the kernel refuses.
        source: LinearError,
    },
    /// The integer convolution refused its arguments.
    Convolution {
        /// The layer.
        layer: ParamId,
        /// What the kernel refuses.
        source: ConvError,
    },
    /// A function refused its arguments.
    Function {
        /// The layer.
        layer: ParamId,
        /// What the kernel refuses.
        source: FloatError,
    },
    /// Attention refused its arguments.
    Attention {
        /// The layer.
        layer: ParamId,
        /// What the kernel refuses.
        source: AttentionError,
    },
    /// The kernel that `QUANT_KERNEL` names is not available.
    Kernel(KernelUnavailable),
    /// An index of an embedding is out of range.
    Index {
        /// The position among the indices, from 0.
        position: usize,
        /// The index.
        index: u32,
        /// The number of rows.
        rows: usize,
    },
    /// The input is to be quantized, but the weight is float: `quantize_weights` was not called.
    FloatWeight {
        /// The layer.
        layer: ParamId,
    },
    /// A weight in training cannot be quantized.
    Weight {
        /// The layer.
        layer: ParamId,
        /// Which of its values or scales cannot be quantized.
        source: WeightError,
    },
    /// The scale of an activation in training is not a positive normal number.
    Scale {
        /// The layer.
        layer: ParamId,
        /// The scale.
        source: ScaleError,
    },
    /// A tensor cannot be made: a storage refuses its shape, or a norm cannot be folded.
    Tensor(TensorError),
    /// The library of the tensors, such as candle, failed; with its message.
    Backend(String),
}

impl From<ActivationError> for ForwardError {
    fn from(error: ActivationError) -> Self {
        Self::Activation(error)
    }
}

impl From<KernelUnavailable> for ForwardError {
    fn from(error: KernelUnavailable) -> Self {
        Self::Kernel(error)
    }
}

impl From<TensorError> for ForwardError {
    fn from(error: TensorError) -> Self {
        Self::Tensor(error)
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activation(error) => error.fmt(f),
            Self::Shape { layer, expected, found } => {
                write!(f, "{layer}: expected {expected}, found {found:?}")
            }
            Self::Pack { layer, .. } => write!(f, "{layer}: the weight does not run in integers"),
            Self::Product { layer, .. } => write!(f, "{layer}: the integer product failed"),
            Self::Convolution { layer, .. } => {
                write!(f, "{layer}: the integer convolution failed")
            }
            Self::Function { layer, .. } => write!(f, "{layer}: the function failed"),
            Self::Attention { layer, .. } => write!(f, "{layer}: attention failed"),
            Self::Kernel(error) => error.fmt(f),
            Self::Index { position, index, rows } => write!(
                f,
                "embedding: index {index} at position {position} is out of range; there are \
                 {rows} rows"
            ),
            Self::FloatWeight { layer } => write!(
                f,
                "{layer}: the input is to be quantized, but the weight is float; call \
                 `quantize_weights`, or `quantize`"
            ),
            Self::Weight { layer, .. } => write!(f, "{layer}: the weight cannot be quantized"),
            Self::Scale { layer, .. } => write!(f, "{layer}: the scale of the input is invalid"),
            Self::Tensor(error) => error.fmt(f),
            Self::Backend(message) => f.write_str(message),
        }
    }
}

impl core::error::Error for ForwardError {
    /// The next layer. `Activation`, `Kernel` and `Tensor` print the error they hold, so their
    /// source is the source of that error.
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Activation(error) => error.source(),
            Self::Pack { source, .. } => Some(source),
            Self::Product { source, .. } => Some(source),
            Self::Convolution { source, .. } => Some(source),
            Self::Function { source, .. } => Some(source),
            Self::Attention { source, .. } => Some(source),
            Self::Weight { source, .. } => Some(source),
            Self::Scale { source, .. } => Some(source),
            Self::Kernel(error) => error.source(),
            Self::Tensor(error) => error.source(),
            Self::Shape { .. }
            | Self::Index { .. }
            | Self::FloatWeight { .. }
            | Self::Backend(_) => None,
        }
    }
}
