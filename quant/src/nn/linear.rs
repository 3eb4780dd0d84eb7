//! Dense layers.

use ndarray::ArrayD;

use super::{Execute, ExecuteError};
use crate::activation::ActivationQuantizer;
use crate::module::Param;
use crate::tensor::{FloatTensor, TensorError};

/// `y = x · wᵀ + b`.
#[derive(Clone, Debug, crate::Module)]
pub struct Linear<T: FloatTensor = ArrayD<f32>> {
    /// `[out, in]`
    pub weight: Param<T>,
    /// `[out]`
    pub bias: Option<Param<T>>,
    /// How the input is quantized.
    pub input: ActivationQuantizer,
}

impl<T: FloatTensor> Linear<T> {
    /// The layer with this weight, `[out, in]`, and bias, `[out]`.
    ///
    /// # Errors
    /// Shapes that do not fit each other.
    pub fn new(weight: T, bias: Option<T>) -> Result<Self, TensorError> {
        let shape = weight.shape();
        let &[outputs, _] = &*shape else { return Err(TensorError::rank(2, &shape)) };
        if let Some(bias) = &bias
            && *bias.shape() != [outputs]
        {
            return Err(TensorError::shape(&[outputs], &bias.shape()));
        }
        drop(shape);
        Ok(Self {
            weight: Param::new(weight),
            bias: bias.map(Param::new),
            input: ActivationQuantizer::new(),
        })
    }

    /// The length of an input row.
    pub fn in_features(&self) -> usize {
        self.weight.shape().get(1).copied().unwrap_or(0)
    }

    /// The length of an output row.
    pub fn out_features(&self) -> usize {
        self.weight.shape().first().copied().unwrap_or(0)
    }
}

impl<T: Execute> Linear<T> {
    /// `[…, in]` to `[…, out]`.
    ///
    /// # Errors
    /// See [`Execute::linear`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ExecuteError> {
        T::linear(x, &self.weight, self.bias.as_ref(), &self.input)
    }
}
