//! The parameters of operations: plain values that layers and backends share.

mod conv;
mod conv_transpose;

pub use conv::{Conv1dOptions, Conv2dOptions, ConvParams};
pub(crate) use conv_transpose::channel_axis;
pub use conv_transpose::{ConvTranspose1dOptions, ConvTranspose2dOptions};

use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;

/// What a product takes besides its input; see [`Backend::linear_into`](crate::Backend::linear_into).
#[derive(Debug)]
#[non_exhaustive]
pub struct LinearParams<'a, T: FloatTensor> {
    /// `[out, in]`
    pub weight: &'a Param<T>,
    /// `[out]`
    pub bias: Option<&'a Param<T>>,
    /// How the input is quantized.
    pub input: &'a ActivationQuantizer,
}

impl<'a, T: FloatTensor> LinearParams<'a, T> {
    /// A product without bias.
    pub const fn new(weight: &'a Param<T>, input: &'a ActivationQuantizer) -> Self {
        Self { weight, bias: None, input }
    }

    /// With this bias, `[out]`.
    #[must_use]
    pub fn bias(self, bias: Option<&'a Param<T>>) -> Self {
        Self { bias, ..self }
    }
}

impl<T: FloatTensor> Clone for LinearParams<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: FloatTensor> Copy for LinearParams<'_, T> {}

/// The parameters of a batch norm, each `[channels]`; see
/// [`Backend::batch_norm`](crate::Backend::batch_norm).
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchNormParams<'a, T: FloatTensor> {
    /// `γ`
    pub weight: &'a Param<T>,
    /// `β`
    pub bias: &'a Param<T>,
    /// `μ`
    pub running_mean: &'a Param<T>,
    /// `σ²`
    pub running_var: &'a Param<T>,
    /// `ε`, added to the variance.
    pub epsilon: f32,
}

impl<'a, T: FloatTensor> BatchNormParams<'a, T> {
    /// A norm with weight `γ`, bias `β`, running mean `μ` and running variance `σ²`.
    pub const fn new(
        [weight, bias, running_mean, running_var]: [&'a Param<T>; 4],
        epsilon: f32,
    ) -> Self {
        Self { weight, bias, running_mean, running_var, epsilon }
    }

    /// `γ`, `β`, `μ`, `σ²`
    pub(crate) fn params(&self) -> [&'a Param<T>; 4] {
        [self.weight, self.bias, self.running_mean, self.running_var]
    }
}

impl<T: FloatTensor> Clone for BatchNormParams<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: FloatTensor> Copy for BatchNormParams<'_, T> {}

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
    /// `x / (1 + exp(-x))`, by rule 16 of `docs/numerics.md`.
    Silu,
}

/// How the pixels under the kernel become one. Pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pool {
    /// The greatest value.
    Max {
        /// Height and width of the kernel.
        kernel_size: [usize; 2],
        /// Pixels between neighbouring kernel positions.
        stride: [usize; 2],
    },
    /// The mean.
    Average {
        /// Height and width of the kernel.
        kernel_size: [usize; 2],
        /// Pixels between neighbouring kernel positions.
        stride: [usize; 2],
    },
}

impl Pool {
    /// The maximum of pixels that do not overlap: the stride is the size of the kernel.
    pub const fn max(kernel_size: [usize; 2]) -> Self {
        Self::Max { kernel_size, stride: kernel_size }
    }

    /// The mean of pixels that do not overlap: the stride is the size of the kernel.
    pub const fn average(kernel_size: [usize; 2]) -> Self {
        Self::Average { kernel_size, stride: kernel_size }
    }

    /// Height and width of the kernel.
    pub const fn kernel_size(self) -> [usize; 2] {
        match self {
            Self::Max { kernel_size, .. } | Self::Average { kernel_size, .. } => kernel_size,
        }
    }

    /// Pixels between neighbouring kernel positions.
    pub const fn stride(self) -> [usize; 2] {
        match self {
            Self::Max { stride, .. } | Self::Average { stride, .. } => stride,
        }
    }

    /// Height and width of the output; `None` if the kernel is empty or larger than the image, or
    /// if the stride is 0.
    pub fn output_size(self, input: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let size = Some(self.kernel_size()[i]).filter(|&size| size > 0)?;
            let room = input[i].checked_sub(size)?;
            Some(room.checked_div(self.stride()[i])? + 1)
        };
        Some([along(0)?, along(1)?])
    }
}
