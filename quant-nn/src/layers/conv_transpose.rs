//! Transposed convolutions, which make images and sequences larger.

use ndarray::ArrayD;
use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;
use quant::module::{Walk, Walker, WalkerMut};
use quant::scheme::Axis;
use quant::tensor::TensorError;

use super::bias::check_bias;
use crate::backend::Backend;
use crate::error::ForwardError;
use crate::ops::{ConvParams, ConvTranspose1dOptions, ConvTranspose2dOptions};

/// Two-dimensional transposed convolution, as `PyTorch`'s `ConvTranspose2d`.
///
/// A plan puts channels of the weight along its
/// [axis of outputs](ConvTranspose2dOptions::channel_axis), whichever axis a rule leaves to the
/// default: `per-channel-symmetric-int8` becomes `per-channel-symmetric-int8:axis=1`.
///
/// ```
/// use ndarray::ArrayD;
/// use quant::scheme::ActivationScheme;
/// use quant::{Module, Recipe};
/// use quant_nn::{ConvTranspose2d, ConvTranspose2dOptions};
///
/// let options = ConvTranspose2dOptions::new().stride([2, 2]).padding([1, 1]);
/// let weight = ArrayD::from_elem(vec![8, 4, 4, 4], 0.5); // eight channels to four
/// let twice = ConvTranspose2d::new(weight, None, options)?;
/// let recipe = Recipe::new().scheme("int8".parse()?).activations(ActivationScheme::DYNAMIC);
/// let twice = twice.quantize(&recipe)?;
/// let scheme = twice.weight.quantized().unwrap().scheme();
/// assert_eq!(scheme.to_string(), "per-channel-symmetric-int8:axis=1");
/// assert_eq!(twice.forward(&ArrayD::ones(vec![1, 8, 5, 7]))?.shape(), [1, 4, 10, 14]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConvTranspose2d<T: FloatTensor = ArrayD<f32>> {
    /// `[in, out / groups, height, width]`
    pub weight: Param<T>,
    /// `[out]`
    pub bias: Option<Param<T>>,
    /// How the input is quantized.
    pub input: ActivationQuantizer,
    /// How the kernel moves.
    pub options: ConvTranspose2dOptions,
}

impl<T: FloatTensor> ConvTranspose2d<T> {
    /// The layer with this weight, `[in, out / groups, height, width]`, and bias, `[out]`.
    ///
    /// # Errors
    /// A weight that is not of rank 4, or a bias of another shape than `[out]`.
    pub fn new(
        weight: T,
        bias: Option<T>,
        options: ConvTranspose2dOptions,
    ) -> Result<Self, TensorError> {
        let group_out = match &*weight.shape() {
            &[_, group_out, _, _] => group_out,
            shape => return Err(TensorError::rank(4, shape)),
        };
        check_bias(bias.as_ref(), group_out.saturating_mul(options.groups))?;
        let (weight, bias) = (Param::new(weight), bias.map(Param::new));
        Ok(Self { weight, bias, input: ActivationQuantizer::new(), options })
    }

    fn outputs(&self) -> Axis {
        self.options.channel_axis(inputs(&self.weight))
    }
}

impl<T: Backend> ConvTranspose2d<T> {
    /// `[batch, in, height, width]` to `[batch, out, height', width']`.
    ///
    /// # Errors
    /// See [`Backend::conv_transpose2d`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        let conv = ConvParams::new(&self.weight, &self.input).bias(self.bias.as_ref());
        T::conv_transpose2d(x, conv.options(self.options))
    }
}

/// Transposed convolution along a sequence, as `PyTorch`'s `ConvTranspose1d`: a
/// [`ConvTranspose2d`] of an image of height 1, with the same bits.
///
/// ```
/// use ndarray::ArrayD;
/// use quant_nn::{ConvTranspose1d, ConvTranspose1dOptions};
///
/// let causal = ConvTranspose1dOptions::new().stride(8).padding_sides([0, 8]);
/// let layer = ConvTranspose1d::new(ArrayD::ones(vec![6, 3, 16]), None, causal)?;
/// assert_eq!(layer.forward(&ArrayD::ones(vec![1, 6, 25]))?.shape(), [1, 3, 200]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConvTranspose1d<T: FloatTensor = ArrayD<f32>> {
    /// `[in, out / groups, length]`
    pub weight: Param<T>,
    /// `[out]`
    pub bias: Option<Param<T>>,
    /// How the input is quantized.
    pub input: ActivationQuantizer,
    /// How the kernel moves.
    pub options: ConvTranspose1dOptions,
}

impl<T: FloatTensor> ConvTranspose1d<T> {
    /// The layer with this weight, `[in, out / groups, length]`, and bias, `[out]`.
    ///
    /// # Errors
    /// A weight that is not of rank 3, or a bias of another shape than `[out]`.
    pub fn new(
        weight: T,
        bias: Option<T>,
        options: ConvTranspose1dOptions,
    ) -> Result<Self, TensorError> {
        let group_out = match &*weight.shape() {
            &[_, group_out, _] => group_out,
            shape => return Err(TensorError::rank(3, shape)),
        };
        check_bias(bias.as_ref(), group_out.saturating_mul(options.groups))?;
        let (weight, bias) = (Param::new(weight), bias.map(Param::new));
        Ok(Self { weight, bias, input: ActivationQuantizer::new(), options })
    }

    fn outputs(&self) -> Axis {
        self.options.channel_axis(inputs(&self.weight))
    }
}

impl<T: Backend> ConvTranspose1d<T> {
    /// `[batch, in, length]` to `[batch, out, length']`.
    ///
    /// # Errors
    /// See [`Backend::conv_transpose1d`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        let conv = ConvParams::new(&self.weight, &self.input).bias(self.bias.as_ref());
        T::conv_transpose1d(x, conv.options(self.options))
    }
}

/// The number of input channels of a weight.
fn inputs<T: FloatTensor>(weight: &Param<T>) -> usize {
    weight.shape().first().copied().unwrap_or(0)
}

/// Not derived, because the axis of outputs depends on the groups.
macro_rules! walk {
    ($layer:ident) => {
        impl<T: FloatTensor> Walk for $layer<T> {
            fn walk(&self, walker: &mut Walker<'_>) {
                self.weight.walk(&mut walker.field_with_outputs("weight", self.outputs()));
                self.bias.walk(&mut walker.field("bias"));
                self.input.walk(&mut walker.field("input"));
            }

            fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
                let outputs = self.outputs();
                self.weight.walk_mut(&mut walker.field_with_outputs("weight", outputs));
                self.bias.walk_mut(&mut walker.field("bias"));
                self.input.walk_mut(&mut walker.field("input"));
            }
        }
    };
}

walk!(ConvTranspose2d);
walk!(ConvTranspose1d);
