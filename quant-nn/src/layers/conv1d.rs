//! Convolutions along a sequence.

use ndarray::ArrayD;
use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;
use quant::tensor::TensorError;

use super::bias::check_bias;
use crate::backend::Backend;
use crate::error::ForwardError;
use crate::ops::{Conv1dOptions, ConvParams};

/// Convolution along a sequence: that of an image of height 1, with the same bits.
///
/// ```
/// use ndarray::ArrayD;
/// use quant::scheme::ActivationScheme;
/// use quant::{Module, Recipe};
/// use quant_nn::{Conv1d, Conv1dOptions};
///
/// // Eight channels to four; no output depends on later inputs.
/// let weight = ArrayD::from_elem(vec![4, 8, 3], 0.5);
/// let causal = Conv1d::new(weight, None, Conv1dOptions::new().padding_sides([2, 0]))?;
/// let recipe = Recipe::new().scheme("int8".parse()?).activations(ActivationScheme::DYNAMIC);
/// let causal = causal.quantize(&recipe)?;
/// let y = causal.forward(&ArrayD::ones(vec![1, 8, 100]))?;
/// assert_eq!(y.shape(), [1, 4, 100]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, quant::Module)]
pub struct Conv1d<T: FloatTensor = ArrayD<f32>> {
    /// `[out, in / groups, length]`
    pub weight: Param<T>,
    /// `[out]`
    pub bias: Option<Param<T>>,
    /// How the input is quantized.
    pub input: ActivationQuantizer,
    /// How the kernel moves.
    #[module(skip)]
    pub options: Conv1dOptions,
}

impl<T: FloatTensor> Conv1d<T> {
    /// The layer with this weight, `[out, in / groups, length]`, and bias, `[out]`.
    ///
    /// # Errors
    /// A weight that is not of rank 3, or a bias of another shape than `[out]`.
    pub fn new(weight: T, bias: Option<T>, options: Conv1dOptions) -> Result<Self, TensorError> {
        let outputs = match &*weight.shape() {
            &[outputs, _, _] => outputs,
            shape => return Err(TensorError::rank(3, shape)),
        };
        check_bias(bias.as_ref(), outputs)?;
        Ok(Self {
            weight: Param::new(weight),
            bias: bias.map(Param::new),
            input: ActivationQuantizer::new(),
            options,
        })
    }
}

impl<T: Backend> Conv1d<T> {
    /// `[batch, in, length]` to `[batch, out, length']`.
    ///
    /// # Errors
    /// See [`Backend::conv1d`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        let conv = ConvParams::new(&self.weight, &self.input).bias(self.bias.as_ref());
        T::conv1d(x, conv.options(self.options))
    }
}
