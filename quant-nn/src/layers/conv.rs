//! Convolutions.

use ndarray::ArrayD;
use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;
use quant::tensor::TensorError;

use super::batch_norm::BatchNorm2d;
use super::bias::check_bias;
use crate::backend::Backend;
use crate::error::ForwardError;
use crate::fold::fold;
use crate::ops::{Conv2dOptions, ConvParams};

/// Two-dimensional convolution.
#[derive(Clone, Debug, quant::Module)]
pub struct Conv2d<T: FloatTensor = ArrayD<f32>> {
    /// `[out, in / groups, height, width]`
    pub weight: Param<T>,
    /// `[out]`
    pub bias: Option<Param<T>>,
    /// How the input is quantized.
    pub input: ActivationQuantizer,
    /// How the kernel moves.
    #[module(skip)]
    pub options: Conv2dOptions,
}

impl<T: FloatTensor> Conv2d<T> {
    /// The layer with this weight, `[out, in / groups, height, width]`, and bias, `[out]`.
    ///
    /// # Errors
    /// A weight that is not of rank 4, or a bias of another shape than `[out]`.
    pub fn new(weight: T, bias: Option<T>, options: Conv2dOptions) -> Result<Self, TensorError> {
        let outputs = match &*weight.shape() {
            &[outputs, _, _, _] => outputs,
            shape => return Err(TensorError::rank(4, shape)),
        };
        check_bias(bias.as_ref(), outputs)?;
        Ok(Self {
            weight: Param::new(weight),
            bias: bias.map(Param::new),
            input: ActivationQuantizer::new(),
            options,
        })
    }

    /// The layer that computes this convolution and then `norm`:
    ///
    /// `w' = w · γ / sqrt(σ² + ε)` and `b' = (b - μ) · γ / sqrt(σ² + ε) + β`, for each output.
    ///
    /// Fold before you quantize: a quantized weight cannot be folded.
    ///
    /// # Errors
    /// A quantized parameter ([`TensorError::Storage`]), or a norm or a bias of another number of
    /// channels.
    pub fn fold(&self, norm: &BatchNorm2d<T>) -> Result<Self, TensorError> {
        let (weight, bias) = fold(self.params(), norm.params())?;
        Ok(Self {
            weight: Param::new(weight),
            bias: Some(Param::new(bias)),
            input: self.input.clone(),
            options: self.options,
        })
    }

    /// The layer as a backend takes it.
    pub(super) fn params(&self) -> ConvParams<'_, T> {
        ConvParams::new(&self.weight, &self.input).bias(self.bias.as_ref()).options(self.options)
    }
}

impl<T: Backend> Conv2d<T> {
    /// `[batch, in, height, width]` to `[batch, out, height', width']`.
    ///
    /// # Errors
    /// See [`Backend::conv2d`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        T::conv2d(x, self.params())
    }
}
