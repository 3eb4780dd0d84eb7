//! Convolutions, and the normalization that is folded into them.

use std::borrow::Cow;

use ndarray::ArrayD;

use crate::backend::Backend;
use crate::error::ForwardError;
use crate::ops::Conv2dOptions;
use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;
use quant::tensor::TensorError;

/// Two-dimensional convolution.
#[derive(Clone, Debug, quant::Module)]
pub struct Conv2d<T: FloatTensor = ArrayD<f32>> {
    /// `[out, in / groups, height, width]`
    pub weight: Param<T>,
    /// `[out]`
    pub bias: Option<Param<T>>,
    /// How the input is quantized.
    pub input: ActivationQuantizer,
    /// How the window is moved.
    #[module(skip)]
    pub options: Conv2dOptions,
}

impl<T: FloatTensor> Conv2d<T> {
    /// The layer with this weight, `[out, in / groups, height, width]`, and bias, `[out]`.
    ///
    /// # Errors
    /// Shapes that do not fit each other.
    pub fn new(weight: T, bias: Option<T>, options: Conv2dOptions) -> Result<Self, TensorError> {
        let outputs = match &*weight.shape() {
            &[outputs, _, _, _] => outputs,
            shape => return Err(TensorError::rank(4, shape)),
        };
        if let Some(bias) = &bias
            && *bias.shape() != [outputs]
        {
            return Err(TensorError::shape(&[outputs], &bias.shape()));
        }
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
    /// Fold before quantizing: what is quantized has to be what is executed.
    ///
    /// # Errors
    /// A quantized parameter ([`TensorError::Storage`]), or a norm or a bias of another number of
    /// channels.
    pub fn fold(&self, norm: &BatchNorm2d<T>) -> Result<Self, TensorError> {
        let weight = float(&self.weight)?;
        let shape = weight.shape().into_owned();
        let &[channels, ..] = &*shape else { return Err(TensorError::rank(4, &shape)) };
        let (gamma, beta) = (floats(&norm.weight, channels)?, floats(&norm.bias, channels)?);
        let mean = floats(&norm.running_mean, channels)?;
        let variance = floats(&norm.running_var, channels)?;
        let factors: Vec<f32> = gamma
            .iter()
            .zip(&*variance)
            .map(|(gamma, variance)| gamma / (variance + norm.epsilon).sqrt())
            .collect();
        let mut folded = weight.values().into_owned();
        let window = (folded.len() / channels.max(1)).max(1);
        for (weights, factor) in folded.chunks_mut(window).zip(&factors) {
            weights.iter_mut().for_each(|w| *w *= factor);
        }
        let bias = match &self.bias {
            Some(bias) => floats(bias, channels)?.into_owned(),
            None => vec![0.0; channels],
        };
        let shift = |c: usize| (bias[c] - mean[c]) * factors[c] + beta[c];
        let (bias, device) = ((0..channels).map(shift).collect(), weight.device());
        Ok(Self {
            weight: Param::new(T::from_values(&shape, folded, &device)?),
            bias: Some(Param::new(T::from_values(&[channels], bias, &device)?)),
            input: self.input.clone(),
            options: self.options,
        })
    }
}

/// The value of a parameter that has to be float.
fn float<T: FloatTensor>(param: &Param<T>) -> Result<&T, TensorError> {
    param
        .as_float()
        .ok_or_else(|| TensorError::Storage("a quantized parameter cannot be folded".into()))
}

/// The values of a parameter that has to be float, one for each channel.
fn floats<T: FloatTensor>(
    param: &Param<T>,
    channels: usize,
) -> Result<Cow<'_, [f32]>, TensorError> {
    let values = float(param)?.values();
    if values.len() == channels {
        return Ok(values);
    }
    let expected = format!("{channels} channels").into();
    Err(TensorError::Shape { expected, found: vec![values.len()] })
}

impl<T: Backend> Conv2d<T> {
    /// `[batch, in, height, width]` to `[batch, out, height', width']`.
    ///
    /// # Errors
    /// See [`Backend::conv2d`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        T::conv2d(x, &self.weight, self.bias.as_ref(), self.options, &self.input)
    }
}

/// Normalizes each channel by the statistics that were seen in training.
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
    /// Added to the variance.
    #[module(skip)]
    pub epsilon: f32,
}

impl<T: Backend> BatchNorm2d<T> {
    /// `(x - μ) / sqrt(σ² + ε) · γ + β` for each channel of `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// See [`Backend::batch_norm`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        T::batch_norm(x, self)
    }
}
