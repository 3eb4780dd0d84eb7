//! Batch normalization.

use ndarray::ArrayD;
use quant::FloatTensor;
use quant::Param;
use quant::tensor::TensorError;

use crate::backend::Backend;
use crate::error::ForwardError;
use crate::ops::BatchNormParams;

/// Normalizes each channel by the statistics of the training data.
#[derive(Clone, Debug, quant::Module)]
pub struct BatchNorm2d<T: FloatTensor = ArrayD<f32>> {
    /// `γ`, `[channels]`
    pub weight: Param<T>,
    /// `β`, `[channels]`
    pub bias: Param<T>,
    /// `μ`, `[channels]`
    pub running_mean: Param<T>,
    /// `σ²`, `[channels]`
    pub running_var: Param<T>,
    /// `ε`, added to the variance.
    #[module(skip)]
    pub epsilon: f32,
}

impl<T: FloatTensor> BatchNorm2d<T> {
    /// The layer with weight `γ`, bias `β`, running mean `μ` and running variance `σ²`, each
    /// `[channels]`.
    ///
    /// # Errors
    /// A tensor that is not of rank 1, or tensors of different lengths.
    pub fn new(
        weight: T,
        bias: T,
        running_mean: T,
        running_var: T,
        epsilon: f32,
    ) -> Result<Self, TensorError> {
        let channels = match &*weight.shape() {
            &[channels] => channels,
            shape => return Err(TensorError::rank(1, shape)),
        };
        for tensor in [&bias, &running_mean, &running_var] {
            if *tensor.shape() != [channels] {
                return Err(TensorError::shape(&[channels], &tensor.shape()));
            }
        }
        let [weight, bias, running_mean, running_var] =
            [weight, bias, running_mean, running_var].map(Param::new);
        Ok(Self { weight, bias, running_mean, running_var, epsilon })
    }

    /// The norm as a backend takes it.
    pub(super) fn params(&self) -> BatchNormParams<'_, T> {
        let params = [&self.weight, &self.bias, &self.running_mean, &self.running_var];
        BatchNormParams::new(params, self.epsilon)
    }
}

impl<T: Backend> BatchNorm2d<T> {
    /// `(x - μ) / sqrt(σ² + ε) · γ + β` for each channel of `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// See [`Backend::batch_norm`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        T::batch_norm(x, self.params())
    }
}
