//! The operations that layers are made of, and the two backends that run them.
//!
//! This file is the trait. `ndarray/` computes on slices; `candle/` adds gradients and devices, and
//! uses `ndarray/` on the CPU. The room imports `error`, `ops` and `fold`; `candle/` asks
//! `training` for learned scales.

#[cfg(feature = "candle")]
pub mod candle;
pub(crate) mod conv_options;
pub(crate) mod conv_shape;
pub(crate) mod ndarray;
pub(crate) mod shape;

use crate::error::ForwardError;
use crate::ops::{
    BatchNormParams, Conv1dOptions, ConvParams, ConvTranspose1dOptions, ConvTranspose2dOptions,
    LinearParams, Pool, Unary,
};
use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;
use quant_kernels::{Rope, RopeAngles};

/// A storage of parameters that layers can run on.
///
/// Implemented for `ndarray::ArrayD<f32>` and, with the feature `candle`, for candle's `Tensor` and
/// `Var`. Shapes are row-major; `…` stands for any number of axes.
#[diagnostic::on_unimplemented(
    message = "layers do not run on parameters stored as `{Self}`",
    label = "not a backend",
    note = "layers run on `ndarray::ArrayD<f32>` and, with the feature `candle`, on candle's `Tensor` and `Var`",
    note = "for arrays of fixed rank call `quant_nn::linear`, `conv2d`, `embedding` or `layer_norm`"
)]
pub trait Backend: FloatTensor + Clone {
    /// The inputs and outputs of layers; most often `Self`.
    type Activation: Clone;

    /// `x · wᵀ + b`: `x` is `[…, in]`, `w` is `[out, in]`, `b` is `[out]`, the result `[…, out]`.
    ///
    /// If `input` is observing, it observes `x`. If it is dynamic or static, `x` is quantized, and
    /// the product runs in integers.
    ///
    /// # Errors
    /// Shapes that do not fit, an activation that is not finite where it is quantized, a weight
    /// whose scheme no kernel executes, or an input that is to be quantized in front of a float
    /// weight.
    fn linear(
        x: &Self::Activation,
        weight: &Param<Self>,
        bias: Option<&Param<Self>>,
        input: &ActivationQuantizer,
    ) -> Result<Self::Activation, ForwardError>;

    /// [`linear`](Self::linear) of the same `x` with several weights, into activations that the caller
    /// keeps and that take the shape of the results. Where all quantize the input alike, it is quantized
    /// once.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn linear_into<const N: usize>(
        x: &Self::Activation,
        products: [LinearParams<'_, Self>; N],
        outputs: [&mut Self::Activation; N],
    ) -> Result<(), ForwardError> {
        for (LinearParams { weight, bias, input }, y) in products.into_iter().zip(outputs) {
            *y = Self::linear(x, weight, bias, input)?;
        }
        Ok(())
    }

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

    /// The convolution of `x`, `[batch, in, length]`, with `w`, `[out, in / groups, length]`, plus `b`,
    /// `[out]`: as [`conv2d`](Self::conv2d) of images of height 1.
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d).
    fn conv1d(
        x: &Self::Activation,
        conv: ConvParams<'_, Self, Conv1dOptions>,
    ) -> Result<Self::Activation, ForwardError>;

    /// The transposed convolution of `x`, `[batch, in, height, width]`, with `w`,
    /// `[in, out / groups, height, width]`, plus `b`, `[out]`.
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d); and channels of the weight that do not lie along its
    /// [axis of outputs](ConvTranspose2dOptions::channel_axis), if the input is quantized.
    fn conv_transpose2d(
        x: &Self::Activation,
        conv: ConvParams<'_, Self, ConvTranspose2dOptions>,
    ) -> Result<Self::Activation, ForwardError>;

    /// The transposed convolution of `x`, `[batch, in, length]`, with `w`,
    /// `[in, out / groups, length]`, plus `b`, `[out]`.
    ///
    /// # Errors
    /// As [`conv_transpose2d`](Self::conv_transpose2d).
    fn conv_transpose1d(
        x: &Self::Activation,
        conv: ConvParams<'_, Self, ConvTranspose1dOptions>,
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

    /// `(x - μ) / sqrt(σ² + ε) · γ + β` for each channel of `x`, `[batch, channels, height,
    /// width]`.
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

    /// The rows of `w`, `[rows, n]`, at `indices`: `[indices, n]`. Rows of a quantized weight are
    /// dequantized when they are looked up.
    ///
    /// # Errors
    /// An index out of range, or a weight that is not of rank 2.
    fn embedding(indices: &[u32], weight: &Param<Self>) -> Result<Self::Activation, ForwardError>;

    /// [`embedding`](Self::embedding) into an activation that the caller keeps.
    ///
    /// # Errors
    /// As [`embedding`](Self::embedding).
    fn embedding_into(
        indices: &[u32],
        weight: &Param<Self>,
        y: &mut Self::Activation,
    ) -> Result<(), ForwardError> {
        *y = Self::embedding(indices, weight)?;
        Ok(())
    }

    /// `x / sqrt(mean(x²) + ε) · w` over the last axis of `x`, `[…, n]`; `w` is `[n]`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn rms_norm(
        x: &Self::Activation,
        weight: &Param<Self>,
        epsilon: f32,
    ) -> Result<Self::Activation, ForwardError>;

    /// [`rms_norm`](Self::rms_norm) into an activation that the caller keeps.
    ///
    /// # Errors
    /// As [`rms_norm`](Self::rms_norm).
    fn rms_norm_into(
        x: &Self::Activation,
        weight: &Param<Self>,
        epsilon: f32,
        y: &mut Self::Activation,
    ) -> Result<(), ForwardError> {
        *y = Self::rms_norm(x, weight, epsilon)?;
        Ok(())
    }

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

    /// The columns of `x`, `[…, n]`, in another order: column `i` is that at `order[i]`.
    ///
    /// # Errors
    /// `order` does not have `n` indices, each below `n`.
    fn permute_columns(
        x: &Self::Activation,
        order: &[u32],
    ) -> Result<Self::Activation, ForwardError>;

    /// Joins the axes of `x` from `axis` on: with 1, `[batch, c, h, w]` becomes
    /// `[batch, c · h · w]`.
    ///
    /// # Errors
    /// `axis` is not an axis of `x`.
    fn flatten(x: Self::Activation, axis: usize) -> Result<Self::Activation, ForwardError>;

    /// `x + y`, such as the hidden states of a model and what a layer adds to them.
    ///
    /// # Errors
    /// Shapes that differ.
    fn add(x: Self::Activation, y: &Self::Activation) -> Result<Self::Activation, ForwardError>;

    /// Rotates each head of queries or keys, `[tokens, heads · head_dim]`, by the
    /// [angles](Rope::angles) of the positions of its tokens. By rule 16 of `docs/numerics.md`.
    ///
    /// # Errors
    /// Angles of another rotary embedding, or of another number of tokens.
    fn rope(
        x: Self::Activation,
        heads: usize,
        rope: &Rope,
        angles: &RopeAngles,
    ) -> Result<Self::Activation, ForwardError>;

    /// Causal attention within each sequence of a batch: `softmax(q · kᵀ / √d) · v` for each head, where a
    /// token sees itself and the earlier tokens of its own sequence. By rule 17 of `docs/numerics.md`, for
    /// keys and values that stay floats.
    ///
    /// Queries are `[tokens, heads · d]`, keys and values `[tokens, key heads · d]`; the result has the
    /// shape of the queries. Query heads `g · i ..= g · i + g - 1` share head `i` of keys and values, where
    /// `g` is `heads / key heads`. The sequences of the batch follow each other in the rows, without
    /// padding; `lengths` are their numbers of tokens.
    ///
    /// This takes whole sequences, as training and scoring do. To continue sequences token by token, keep
    /// their keys and values in caches: see
    /// [`causal_attention_into`](crate::causal_attention_into), which gives the same bits with caches of
    /// floats.
    ///
    /// # Errors
    /// Shapes that do not fit each other, lengths whose sum is not the number of tokens, or an element that
    /// is not finite (on the CPU and in f32).
    fn causal_attention(
        qkv: [&Self::Activation; 3],
        heads: usize,
        lengths: &[usize],
    ) -> Result<Self::Activation, ForwardError>;

    /// `silu(gate) · up`, where `silu(x) = x / (1 + exp(-x))`. By rule 16 of `docs/numerics.md`.
    ///
    /// # Errors
    /// Shapes that differ.
    fn swiglu(
        gate: Self::Activation,
        up: &Self::Activation,
    ) -> Result<Self::Activation, ForwardError>;

    /// A function of each element.
    ///
    /// # Errors
    /// An operation of the library of the tensors fails.
    fn unary(x: Self::Activation, function: Unary) -> Result<Self::Activation, ForwardError>;

    /// `min(max(x, 0), ceiling)` of each element of `x`, `[batch, channels, …]`, with one ceiling, or one for
    /// each channel.
    ///
    /// # Errors
    /// Another number of ceilings.
    fn clipped_relu(
        x: Self::Activation,
        ceilings: &[f32],
    ) -> Result<Self::Activation, ForwardError>;

    /// `exp(x) / Σ exp(x)` over the last axis.
    ///
    /// # Errors
    /// An operation of the library of the tensors fails.
    fn softmax(x: Self::Activation) -> Result<Self::Activation, ForwardError>;
}
