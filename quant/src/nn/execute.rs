//! The operations that layers are made of.

use super::ExecuteError;
use crate::activation::ActivationQuantizer;
use crate::module::Param;
use crate::tensor::FloatTensor;

/// Tensors that layers can run on.
///
/// [`FloatTensor`] says how a parameter is stored; this says how a layer runs. It is implemented
/// for `ndarray::ArrayD<f32>`. Shapes are row-major; `…` stands for any number of axes.
pub trait Execute: FloatTensor + Clone {
    /// `x · wᵀ + b`: `x` is `[…, in]`, `w` is `[out, in]`, `b` is `[out]`, the result `[…, out]`.
    ///
    /// `input` sees `x` if it is observing, and says how `x` is quantized if `w` is.
    ///
    /// # Errors
    /// Shapes that do not fit, or an activation that is not finite where it is to be quantized.
    fn linear(
        x: &Self,
        weight: &Param<Self>,
        bias: Option<&Param<Self>>,
        input: &ActivationQuantizer,
    ) -> Result<Self, ExecuteError>;

    /// The rows of `w`, `[rows, n]`, with these indices: `[indices, n]`. Rows of a quantized
    /// weight are dequantized when looked up.
    ///
    /// # Errors
    /// An index out of range, or a weight that has not two axes.
    fn embedding(indices: &[u32], weight: &Param<Self>) -> Result<Self, ExecuteError>;

    /// `(x - mean) / sqrt(variance + ε) · w + b` over the last axis of `x`, `[…, n]`; `w` and
    /// `b` are `[n]`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn layer_norm(
        x: &Self,
        weight: &Param<Self>,
        bias: &Param<Self>,
        epsilon: f32,
    ) -> Result<Self, ExecuteError>;

    /// A function of each element.
    ///
    /// # Errors
    /// Those of the library behind the tensors.
    fn unary(x: Self, function: Unary) -> Result<Self, ExecuteError>;

    /// `exp(x) / Σ exp(x)` over the last axis.
    ///
    /// # Errors
    /// Those of the library behind the tensors.
    fn softmax(x: Self) -> Result<Self, ExecuteError>;
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
