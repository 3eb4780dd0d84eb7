//! Root mean square normalization.

use ndarray::ArrayD;

use crate::backend::Backend;
use crate::error::ForwardError;
use quant::FloatTensor;
use quant::Param;

/// Divides each row by the root of the mean of its squares, then multiplies by `weight`.
#[derive(Clone, Debug, quant::Module)]
pub struct RmsNorm<T: FloatTensor = ArrayD<f32>> {
    /// `[n]`
    pub weight: Param<T>,
    /// `ε`, added to the mean of squares.
    #[module(skip)]
    pub epsilon: f32,
}

impl<T: FloatTensor> RmsNorm<T> {
    /// The layer with this weight, `[n]`.
    pub fn new(weight: T, epsilon: f32) -> Self {
        Self { weight: Param::new(weight), epsilon }
    }
}

impl<T: Backend> RmsNorm<T> {
    /// `[…, n]` to `[…, n]`.
    ///
    /// # Errors
    /// See [`Backend::rms_norm`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        T::rms_norm(x, &self.weight, self.epsilon)
    }

    /// [`forward`](Self::forward) into an activation that the caller keeps.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn forward_into(
        &self,
        x: &T::Activation,
        y: &mut T::Activation,
    ) -> Result<(), ForwardError> {
        T::rms_norm_into(x, &self.weight, self.epsilon, y)
    }
}
