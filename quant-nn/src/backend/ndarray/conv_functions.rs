//! Convolutions as functions over arrays of any rank, for layers of your own.

use ndarray::{Array, Dimension};
use quant::FloatTensor;
use quant::activation::ActivationQuantizer;

use super::convolution::Convolution;
use super::functions::array;
use super::param::CpuParam;
use crate::backend::conv_options::ConvOptions;
use crate::backend::shape;
use crate::error::ForwardError;
use crate::ops::{Conv1dOptions, Conv2dOptions, ConvTranspose1dOptions, ConvTranspose2dOptions};

/// The convolution of `x`, `[batch, in, height, width]`, with `w`,
/// `[out, in / groups, height, width]`, plus `b`, `[out]`.
///
/// As [`linear`](crate::linear), except that a quantized weight with a float input is dequantized
/// once, and that weights quantized in blocks do not run in integers. A dynamic input that is per
/// row has a range for each image.
///
/// # Errors
/// As [`linear`](crate::linear).
pub fn conv2d<D: Dimension>(
    x: &Array<f32, D>,
    weight: &dyn CpuParam,
    bias: Option<&dyn CpuParam>,
    options: Conv2dOptions,
    input: &ActivationQuantizer,
) -> Result<Array<f32, D>, ForwardError> {
    convolve(x, weight, bias, options, input)
}

/// The convolution of `x`, `[batch, in, length]`, with `w`, `[out, in / groups, length]`, plus `b`,
/// `[out]`: as [`conv2d`] of images of height 1, with the same bits.
///
/// ```
/// use ndarray::{Array3, array};
/// use quant::{Param, activation::ActivationQuantizer};
/// use quant_nn::Conv1dOptions;
///
/// let weight: Param<Array3<f32>> = array![[[1.0, 10.0]]].into();
/// let x = array![[[1.0, 2.0, 3.0]]];
/// let causal = Conv1dOptions::new().padding_sides([1, 0]);
/// let y = quant_nn::conv1d(&x, &weight, None, causal, &ActivationQuantizer::new())?;
/// assert_eq!(y, array![[[10.0, 21.0, 32.0]]]); // nothing depends on what comes later
/// # Ok::<(), quant_nn::ForwardError>(())
/// ```
///
/// # Errors
/// As [`linear`](crate::linear).
pub fn conv1d<D: Dimension>(
    x: &Array<f32, D>,
    weight: &dyn CpuParam,
    bias: Option<&dyn CpuParam>,
    options: Conv1dOptions,
    input: &ActivationQuantizer,
) -> Result<Array<f32, D>, ForwardError> {
    convolve(x, weight, bias, options, input)
}

/// The transposed convolution of `x`, `[batch, in, height, width]`, with `w`,
/// `[in, out / groups, height, width]`, plus `b`, `[out]`.
///
/// Each input times the kernel is added to the output, where the inputs lie
/// [`stride`](ConvTranspose2dOptions::stride) apart. Weight and options are those of `PyTorch`'s
/// `ConvTranspose2d`. What is computed depends on the weight and on `input`, as in [`conv2d`].
///
/// Channels of a quantized weight lie along its
/// [axis of outputs](ConvTranspose2dOptions::channel_axis), which is not the first one. A layer of
/// your own says so where it is walked
/// ([`field_with_outputs`](quant::module::Walker::field_with_outputs)), or has its scheme in an
/// attribute: `#[module(scheme = "per-channel-symmetric-int8:axis=1")]`.
///
/// # Errors
/// As [`linear`](crate::linear).
pub fn conv_transpose2d<D: Dimension>(
    x: &Array<f32, D>,
    weight: &dyn CpuParam,
    bias: Option<&dyn CpuParam>,
    options: ConvTranspose2dOptions,
    input: &ActivationQuantizer,
) -> Result<Array<f32, D>, ForwardError> {
    convolve(x, weight, bias, options, input)
}

/// The transposed convolution of `x`, `[batch, in, length]`, with `w`, `[in, out / groups, length]`,
/// plus `b`, `[out]`: as [`conv_transpose2d`] of images of height 1, with the same bits.
///
/// ```
/// use ndarray::{Array3, array};
/// use quant::{Param, activation::ActivationQuantizer};
/// use quant_nn::ConvTranspose1dOptions;
///
/// let weight: Param<Array3<f32>> = array![[[1.0, 10.0, 100.0]]].into();
/// let x = array![[[1.0, 2.0]]];
/// let options = ConvTranspose1dOptions::new().stride(2);
/// let y = quant_nn::conv_transpose1d(&x, &weight, None, options, &ActivationQuantizer::new())?;
/// assert_eq!(y, array![[[1.0, 10.0, 102.0, 20.0, 200.0]]]);
/// # Ok::<(), quant_nn::ForwardError>(())
/// ```
///
/// # Errors
/// As [`linear`](crate::linear).
pub fn conv_transpose1d<D: Dimension>(
    x: &Array<f32, D>,
    weight: &dyn CpuParam,
    bias: Option<&dyn CpuParam>,
    options: ConvTranspose1dOptions,
    input: &ActivationQuantizer,
) -> Result<Array<f32, D>, ForwardError> {
    convolve(x, weight, bias, options, input)
}

/// A convolution of any kind.
pub(super) fn convolve<D: Dimension, O: ConvOptions<Geometry: Convolution>>(
    x: &Array<f32, D>,
    weight: &dyn CpuParam,
    bias: Option<&dyn CpuParam>,
    options: O,
    input: &ActivationQuantizer,
) -> Result<Array<f32, D>, ForwardError> {
    let layer = options.layer(input);
    let geometry = options.geometry(x.shape(), &weight.shape(), layer)?;
    let bias_shape = bias.map(CpuParam::shape);
    shape::check_bias(bias_shape.as_deref(), geometry.out_channels(), layer)?;
    let values = FloatTensor::values(x);
    input.observe(&values)?;
    geometry.observe_moments(&values, input)?;
    let bias = bias.map(CpuParam::values);
    let bias = bias.as_deref();
    let dims = geometry.output_dims();
    let mut y = vec![0.0; dims.iter().product()];
    match weight.quantized() {
        None => {
            layer.check_float()?;
            geometry.in_floats(&values, &weight.values(), bias, &mut y);
        }
        Some(tensor) => {
            geometry.with_quantized(&values, tensor, weight.cache(), (bias, layer), &mut y)?;
        }
    }
    input.observe_outputs(&y, dims[2..].iter().product());
    Ok(array(&dims, y))
}
