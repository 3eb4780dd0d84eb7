//! Why a layer cannot run.

use core::fmt;

use quant::ParamId;
use quant::QuantizationScheme;
use quant::activation::{ActivationError, ActivationMode, ActivationQuantizer};
use quant::quantize::WeightError;
use quant::scheme::ScaleError;
use quant::tensor::TensorError;
use quant_kernels::{ConvError, KernelUnavailable, LinearError, PackError};

/// A layer cannot run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ForwardError {
    /// An activation that is to be quantized is not finite.
    Activation(ActivationError),
    /// A tensor has another shape than the layer needs.
    Shape {
        /// The layer: the path of its activation quantizer, or what it is.
        layer: ParamId,
        /// What is needed, in words.
        expected: String,
        /// The shape.
        found: Vec<usize>,
    },
    /// No integer kernel executes weights of this scheme.
    Scheme {
        /// The layer.
        layer: ParamId,
        /// The scheme of its weight.
        scheme: QuantizationScheme,
        /// What it should be.
        expected: &'static str,
    },
    /// The weights cannot be packed.
    Pack {
        /// The layer.
        layer: ParamId,
        /// Why.
        source: PackError,
    },
    /// The integer product refused its arguments.
    Product {
        /// The layer.
        layer: ParamId,
        /// Why.
        source: LinearError,
    },
    /// The integer convolution refused its arguments.
    Convolution {
        /// The layer.
        layer: ParamId,
        /// Why.
        source: ConvError,
    },
    /// The kernel that `QUANT_KERNEL` names is not to be had.
    Kernel(KernelUnavailable),
    /// An index of an embedding is out of range.
    Index {
        /// The position among the indices.
        position: usize,
        /// The index.
        index: u32,
        /// The number of rows.
        rows: usize,
    },
    /// The input is to be quantized, but the weight is float: `quantize_weights` was forgotten.
    FloatWeight {
        /// The layer.
        layer: ParamId,
    },
    /// A weight in training cannot be quantized.
    Weight {
        /// The layer.
        layer: ParamId,
        /// Why.
        source: WeightError,
    },
    /// The scale of an activation in training is not a positive normal number.
    Scale {
        /// The layer.
        layer: ParamId,
        /// The scale.
        source: ScaleError,
    },
    /// A storage cannot hold a result.
    Tensor(TensorError),
    /// The library behind the tensors failed.
    Backend(String),
}

impl ForwardError {
    /// A tensor has another shape than the layer of `activation` needs.
    pub(crate) fn shape(
        activation: &ActivationQuantizer,
        expected: impl Into<String>,
        found: &[usize],
    ) -> Self {
        let (layer, expected) = (activation.name(), expected.into());
        Self::Shape { layer, expected, found: found.into() }
    }

    /// Refuses to run a float weight where the input is to be quantized.
    pub(crate) fn check_float(activation: &ActivationQuantizer) -> Result<(), Self> {
        match activation.mode() {
            ActivationMode::Dynamic(_) | ActivationMode::Static(_) => {
                Err(Self::FloatWeight { layer: activation.name() })
            }
            _ => Ok(()),
        }
    }

    /// A failed product; a value that is not finite is the activation's error.
    pub(crate) fn product(activation: &ActivationQuantizer, source: LinearError) -> Self {
        match source {
            LinearError::NonFinite(source) => Self::Activation(activation.non_finite(source)),
            source => Self::Product { layer: activation.name(), source },
        }
    }

    /// A failed convolution; a value that is not finite is the activation's error.
    pub(crate) fn convolution(activation: &ActivationQuantizer, source: ConvError) -> Self {
        match source {
            ConvError::Linear(source) => Self::product(activation, source),
            source => Self::Convolution { layer: activation.name(), source },
        }
    }
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
                write!(f, "{layer}: the shape is {found:?}, {expected} is needed")
            }
            Self::Scheme { layer, scheme, expected } => {
                write!(f, "{layer}: no kernel executes weights quantized {scheme}; use {expected}")
            }
            Self::Pack { layer, source } => write!(f, "{layer}: {source}"),
            Self::Product { layer, source } => write!(f, "{layer}: {source}"),
            Self::Convolution { layer, source } => write!(f, "{layer}: {source}"),
            Self::FloatWeight { layer } => write!(
                f,
                "{layer}: the input is to be quantized, but the weight is float; call \
                 `quantize_weights`, or `quantize`"
            ),
            Self::Weight { layer, source } => write!(f, "{layer}: the weight: {source}"),
            Self::Scale { layer, source } => write!(f, "{layer}: {source}"),
            Self::Kernel(error) => error.fmt(f),
            Self::Index { position, index, rows } => {
                write!(
                    f,
                    "index {index} at position {position} is not below {rows}, the number of rows"
                )
            }
            Self::Tensor(error) => error.fmt(f),
            Self::Backend(error) => f.write_str(error),
        }
    }
}

impl core::error::Error for ForwardError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            // The message is that of the error inside, and so is the source.
            Self::Activation(error) => error.source(),
            Self::Pack { source, .. } => Some(source),
            Self::Product { source, .. } => Some(source),
            Self::Convolution { source, .. } => Some(source),
            Self::Weight { source, .. } => Some(source),
            Self::Scale { source, .. } => Some(source),
            Self::Kernel(error) => Some(error),
            Self::Tensor(error) => Some(error),
            _ => None,
        }
    }
}
