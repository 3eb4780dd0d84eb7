//! Fully connected layers.

use ndarray::ArrayD;

use crate::backend::Backend;
use crate::error::ForwardError;
use crate::layers::InputOrder;
use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;
use quant::tensor::TensorError;

/// `y = x · wᵀ + b`.
#[derive(Clone, Debug, quant::Module)]
pub struct Linear<T: FloatTensor = ArrayD<f32>> {
    /// `[out, in]`
    pub weight: Param<T>,
    /// `[out]`
    pub bias: Option<Param<T>>,
    /// How the input is quantized.
    pub input: ActivationQuantizer,
    /// The order of the columns of the weight.
    pub input_order: InputOrder,
}

impl<T: FloatTensor> Linear<T> {
    /// The layer with this weight, `[out, in]`, and bias, `[out]`.
    ///
    /// # Errors
    /// A weight that is not of rank 2, or a bias of another shape than `[out]`.
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
            input_order: InputOrder::new(),
        })
    }

    /// The number of input features.
    pub fn in_features(&self) -> usize {
        self.weight.shape().get(1).copied().unwrap_or(0)
    }

    /// The number of output features.
    pub fn out_features(&self) -> usize {
        self.weight.shape().first().copied().unwrap_or(0)
    }
}

impl<T: Backend> Linear<T> {
    /// `[…, in]` to `[…, out]`.
    ///
    /// # Errors
    /// See [`Backend::linear`]; and an input of another length than its
    /// [order](Self::input_order).
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        let x = self.input_order.apply::<T>(x)?;
        T::linear(&x, &self.weight, self.bias.as_ref(), &self.input)
    }
}
