//! Layer normalization.

use ndarray::ArrayD;

use crate::backend::Backend;
use crate::error::ForwardError;
use quant::FloatTensor;
use quant::Param;

/// Normalizes the last axis to mean 0 and variance 1, then multiplies by `weight` and adds `bias`.
#[derive(Clone, Debug, quant::Module)]
pub struct LayerNorm<T: FloatTensor = ArrayD<f32>> {
    /// `[n]`
    pub weight: Param<T>,
    /// `[n]`
    pub bias: Param<T>,
    /// `ε`, added to the variance.
    #[module(skip)]
    pub epsilon: f32,
}

impl<T: FloatTensor> LayerNorm<T> {
    /// The layer with this weight and bias, both `[n]`.
    pub fn new(weight: T, bias: T, epsilon: f32) -> Self {
        Self { weight: Param::new(weight), bias: Param::new(bias), epsilon }
    }
}

impl<T: Backend> LayerNorm<T> {
    /// `[…, n]` to `[…, n]`.
    ///
    /// # Errors
    /// See [`Backend::layer_norm`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        T::layer_norm(x, &self.weight, &self.bias, self.epsilon)
    }
}
