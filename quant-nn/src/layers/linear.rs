//! Fully connected layers.

use ndarray::ArrayD;

use super::bias::check_bias;
use crate::backend::Backend;
use crate::backend::ndarray::integer::pack;
use crate::error::ForwardError;
use crate::layers::InputOrder;
use crate::ops::LinearParams;
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
        check_bias(bias.as_ref(), outputs)?;
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

    /// Packs a quantized weight for products, now and not in the first one, and frees the memory of what is
    /// packed. A float weight is left alone.
    ///
    /// The layer stays what it is, with the same outputs. To be saved or changed, its weight is made again.
    ///
    /// ```
    /// use ndarray::{ArrayD, IxDyn};
    /// use quant::{Module, Recipe};
    /// use quant_nn::Linear;
    ///
    /// let weight = ArrayD::from_elem(IxDyn(&[64, 128]), 0.5f32);
    /// let recipe = Recipe::new().scheme("int4".parse()?).activations("dynamic".parse()?);
    /// let mut linear = Linear::new(weight, None)?.quantize(recipe)?;
    /// let x = ArrayD::ones(IxDyn(&[1, 128]));
    /// let before = linear.forward(&x)?;
    /// linear.pack()?;
    /// assert!(!linear.weight.quantized().unwrap().is_here());
    /// assert_eq!(linear.forward(&x)?, before);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A weight whose scheme no kernel executes.
    pub fn pack(&mut self) -> Result<(), ForwardError> {
        pack(&mut self.weight, &self.input)
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

    /// [`forward`](Self::forward) into an activation that the caller keeps.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn forward_into(
        &self,
        x: &T::Activation,
        y: &mut T::Activation,
    ) -> Result<(), ForwardError> {
        Self::forward_all([self], x, [y])
    }

    /// What several layers make of the same input, as queries, keys and values are. Where all quantize
    /// it alike, it is quantized once.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn forward_all<const N: usize>(
        layers: [&Self; N],
        x: &T::Activation,
        outputs: [&mut T::Activation; N],
    ) -> Result<(), ForwardError> {
        if layers.iter().any(|layer| layer.input_order.indices().is_some()) {
            for (layer, y) in layers.into_iter().zip(outputs) {
                *y = layer.forward(x)?;
            }
            return Ok(());
        }
        let products = layers.map(|layer| LinearParams {
            weight: &layer.weight,
            bias: layer.bias.as_ref(),
            input: &layer.input,
        });
        T::linear_into(x, products, outputs)
    }
}
