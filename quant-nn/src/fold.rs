//! The arithmetic of folding a batch norm into a convolution.

use std::borrow::Cow;

use quant::FloatTensor;
use quant::Param;
use quant::tensor::TensorError;

use crate::ops::{BatchNormParams, ConvParams};

/// Weight and bias of the convolution that computes `conv` and then `norm`:
///
/// `w' = w · γ / sqrt(σ² + ε)` and `b' = (b - μ) · γ / sqrt(σ² + ε) + β`, for each output.
pub(crate) fn fold<T: FloatTensor>(
    conv: ConvParams<'_, T>,
    norm: BatchNormParams<'_, T>,
) -> Result<(T, T), TensorError> {
    let weight = float(conv.weight)?;
    let shape = weight.shape().into_owned();
    let &[channels, ..] = &*shape else { return Err(TensorError::rank(4, &shape)) };
    let (gamma, beta) = (floats(norm.weight, channels)?, floats(norm.bias, channels)?);
    let mean = floats(norm.running_mean, channels)?;
    let variance = floats(norm.running_var, channels)?;
    let deviations = deviations(&variance, norm.epsilon)?;
    let factors: Vec<f32> =
        gamma.iter().zip(&deviations).map(|(gamma, deviation)| gamma / deviation).collect();
    let mut folded = weight.values().into_owned();
    let filter_len = (folded.len() / channels.max(1)).max(1);
    for (filter, factor) in folded.chunks_mut(filter_len).zip(&factors) {
        filter.iter_mut().for_each(|w| *w *= factor);
    }
    let bias = match conv.bias {
        Some(bias) => floats(bias, channels)?.into_owned(),
        None => vec![0.0; channels],
    };
    let shift = |c: usize| (bias[c] - mean[c]) * factors[c] + beta[c];
    let (bias, device) = ((0..channels).map(shift).collect(), weight.device());
    Ok((T::from_values(&shape, folded, &device)?, T::from_values(&[channels], bias, &device)?))
}

/// `sqrt(σ² + ε)` of each channel.
///
/// # Errors
/// A sum that is not a positive normal number: weights and bias would become infinite or NaN.
fn deviations(variance: &[f32], epsilon: f32) -> Result<Vec<f32>, TensorError> {
    let deviation = |(channel, variance): (usize, &f32)| {
        let sum = variance + epsilon;
        if sum > 0.0 && sum.is_normal() {
            return Ok(sum.sqrt());
        }
        let reason = "which is not a positive normal number";
        let text = format!("the variance plus epsilon of channel {channel} is {sum}, {reason}");
        Err(TensorError::Storage(text))
    };
    variance.iter().enumerate().map(deviation).collect()
}

/// The value of a parameter that must be float.
fn float<T: FloatTensor>(param: &Param<T>) -> Result<&T, TensorError> {
    param
        .as_float()
        .ok_or_else(|| TensorError::Storage("a quantized parameter cannot be folded".into()))
}

/// The values of a float parameter that has one for each channel.
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
