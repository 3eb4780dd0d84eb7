//! The operations that layers are made of.

use super::{BatchNorm2d, Conv2d, Conv2dOptions, ExecuteError};
use crate::activation::ActivationQuantizer;
use crate::module::Param;
use crate::tensor::FloatTensor;

/// Tensors that layers can run on.
///
/// [`FloatTensor`] says how a parameter is stored; this says how a layer runs. It is implemented
/// for `ndarray::ArrayD<f32>` and, with the feature `candle`, for its `Tensor` and `Var`. Shapes are
/// row-major; `…` stands for any number of axes.
pub trait Execute: FloatTensor + Clone {
    /// What flows through a model whose parameters are stored so; most often `Self`.
    type Activation: Clone;

    /// `x · wᵀ + b`: `x` is `[…, in]`, `w` is `[out, in]`, `b` is `[out]`, the result `[…, out]`.
    ///
    /// `input` sees `x` if it is observing, and says how `x` is quantized if `w` is.
    ///
    /// # Errors
    /// Shapes that do not fit, or an activation that is not finite where it is to be quantized.
    fn linear(
        x: &Self::Activation,
        weight: &Param<Self>,
        bias: Option<&Param<Self>>,
        input: &ActivationQuantizer,
    ) -> Result<Self::Activation, ExecuteError>;

    /// The convolution of `x`, `[batch, in, height, width]`, with `w`,
    /// `[out, in / groups, height, width]`, plus `b`, `[out]`.
    ///
    /// `input` is as in [`linear`](Self::linear); a dynamic one that is per row gives each image
    /// a range of its own. A quantized weight with a float input is dequantized once and kept.
    ///
    /// # Errors
    /// Shapes that do not fit, or an activation that is not finite where it is to be quantized.
    fn conv2d(
        x: &Self::Activation,
        weight: &Param<Self>,
        bias: Option<&Param<Self>>,
        options: Conv2dOptions,
        input: &ActivationQuantizer,
    ) -> Result<Self::Activation, ExecuteError>;

    /// What [`ConvNorm2d::forward`](super::ConvNorm2d::forward) computes: the convolution, and then
    /// the norm.
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d).
    fn conv2d_norm(
        x: &Self::Activation,
        conv: &Conv2d<Self>,
        norm: &BatchNorm2d<Self>,
    ) -> Result<Self::Activation, ExecuteError> {
        Self::batch_norm(&conv.forward(x)?, norm)
    }

    /// What [`BatchNorm2d::forward`] computes.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn batch_norm(
        x: &Self::Activation,
        norm: &BatchNorm2d<Self>,
    ) -> Result<Self::Activation, ExecuteError>;

    /// Pools windows of `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// A window that is empty or does not fit into the image, or that does not move.
    fn pool2d(x: &Self::Activation, pool: Pool) -> Result<Self::Activation, ExecuteError>;

    /// The rows of `w`, `[rows, n]`, with these indices: `[indices, n]`. Rows of a quantized
    /// weight are dequantized when looked up.
    ///
    /// # Errors
    /// An index out of range, or a weight that has not two axes.
    fn embedding(indices: &[u32], weight: &Param<Self>) -> Result<Self::Activation, ExecuteError>;

    /// `(x - mean) / sqrt(variance + ε) · w + b` over the last axis of `x`, `[…, n]`; `w` and
    /// `b` are `[n]`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn layer_norm(
        x: &Self::Activation,
        weight: &Param<Self>,
        bias: &Param<Self>,
        epsilon: f32,
    ) -> Result<Self::Activation, ExecuteError>;

    /// `x` with the axes from `axis` on joined to one: `[batch, c, h, w]` to `[batch, c · h · w]`
    /// with 1.
    ///
    /// # Errors
    /// `x` has no such axis.
    fn flatten(x: Self::Activation, axis: usize) -> Result<Self::Activation, ExecuteError>;

    /// A function of each element.
    ///
    /// # Errors
    /// Those of the library behind the tensors.
    fn unary(x: Self::Activation, function: Unary) -> Result<Self::Activation, ExecuteError>;

    /// `exp(x) / Σ exp(x)` over the last axis.
    ///
    /// # Errors
    /// Those of the library behind the tensors.
    fn softmax(x: Self::Activation) -> Result<Self::Activation, ExecuteError>;
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unary {
    /// `max(x, 0)`
    Relu,
    /// `x / 2 · (1 + erf(x / √2))`
    Gelu,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
}

/// How a window of an image becomes one number. Pairs are (down, right).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The greatest.
    Max {
        /// The size of the window.
        size: [usize; 2],
        /// Its steps.
        stride: [usize; 2],
    },
    /// The mean.
    Average {
        /// The size of the window.
        size: [usize; 2],
        /// Its steps.
        stride: [usize; 2],
    },
}

impl Pool {
    /// The size of the window.
    pub const fn size(self) -> [usize; 2] {
        match self {
            Self::Max { size, .. } | Self::Average { size, .. } => size,
        }
    }

    /// Its steps.
    pub const fn stride(self) -> [usize; 2] {
        match self {
            Self::Max { stride, .. } | Self::Average { stride, .. } => stride,
        }
    }

    /// Height and width of the output; `None` if the window is empty, does not fit or does not
    /// move.
    pub fn output_size(self, input: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let size = Some(self.size()[i]).filter(|&size| size > 0)?;
            let room = input[i].checked_sub(size)?;
            Some(room.checked_div(self.stride()[i])? + 1)
        };
        Some([along(0)?, along(1)?])
    }
}
