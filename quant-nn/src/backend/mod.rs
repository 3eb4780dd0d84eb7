//! The operations that layers are made of, and the two backends that run them.
//!
//! This file is the trait. `ndarray/` computes on slices; `candle/` adds gradients and devices, and
//! uses `ndarray/` on the CPU. The room imports `error`, `ops` and `fold`; `candle/` asks `training`
//! for learned scales.

#[cfg(feature = "candle")]
pub mod candle;
pub(crate) mod ndarray;
pub(crate) mod shape;

use crate::error::ForwardError;
use crate::ops::{BatchNormParams, ConvParams, Pool, Unary};
use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;

/// Tensors that layers can run on.
///
/// [`FloatTensor`] says how a parameter is stored; this says how a layer runs. It is implemented
/// for `ndarray::ArrayD<f32>` and, with the feature `candle`, for its `Tensor` and `Var`. Shapes are
/// row-major; `…` stands for any number of axes.
pub trait Backend: FloatTensor + Clone {
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
    ) -> Result<Self::Activation, ForwardError>;

    /// The convolution of `x`, `[batch, in, height, width]`, with `w`,
    /// `[out, in / groups, height, width]`, plus `b`, `[out]`.
    ///
    /// `conv.input` is as in [`linear`](Self::linear); a dynamic one that is per row gives each
    /// image a range of its own. A quantized weight with a float input is dequantized once.
    ///
    /// # Errors
    /// As [`linear`](Self::linear); also a weight quantized in blocks, if the input is quantized.
    fn conv2d(
        x: &Self::Activation,
        conv: ConvParams<'_, Self>,
    ) -> Result<Self::Activation, ForwardError>;

    /// What [`ConvNorm2d::forward`](crate::ConvNorm2d::forward) computes: the convolution, and then
    /// the norm.
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d).
    fn conv2d_norm(
        x: &Self::Activation,
        conv: ConvParams<'_, Self>,
        norm: BatchNormParams<'_, Self>,
    ) -> Result<Self::Activation, ForwardError> {
        Self::batch_norm(&Self::conv2d(x, conv)?, norm)
    }

    /// `(x - μ) / sqrt(σ² + ε) · γ + β` for each channel of `x`, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn batch_norm(
        x: &Self::Activation,
        norm: BatchNormParams<'_, Self>,
    ) -> Result<Self::Activation, ForwardError>;

    /// Pools `x`, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// A kernel that is empty or larger than the image, or a stride of 0.
    fn pool2d(x: &Self::Activation, pool: Pool) -> Result<Self::Activation, ForwardError>;

    /// The rows of `w`, `[rows, n]`, with these indices: `[indices, n]`. Rows of a quantized
    /// weight are dequantized when looked up.
    ///
    /// # Errors
    /// An index out of range, or a weight that has not two axes.
    fn embedding(indices: &[u32], weight: &Param<Self>) -> Result<Self::Activation, ForwardError>;

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
    ) -> Result<Self::Activation, ForwardError>;

    /// `x` with the axes from `axis` on joined to one: `[batch, c, h, w]` to `[batch, c · h · w]`
    /// with 1.
    ///
    /// # Errors
    /// `x` has no such axis.
    fn flatten(x: Self::Activation, axis: usize) -> Result<Self::Activation, ForwardError>;

    /// A function of each element.
    ///
    /// # Errors
    /// Those of the library behind the tensors.
    fn unary(x: Self::Activation, function: Unary) -> Result<Self::Activation, ForwardError>;

    /// `exp(x) / Σ exp(x)` over the last axis.
    ///
    /// # Errors
    /// Those of the library behind the tensors.
    fn softmax(x: Self::Activation) -> Result<Self::Activation, ForwardError>;
}
