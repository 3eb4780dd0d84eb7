//! Execution over `ndarray`: integers by the crate's kernels, floats by those of `rten`.

mod attention;
pub(crate) mod conv;
pub(crate) mod float;
pub(crate) mod integer;

use ndarray::{ArrayD, IxDyn};

pub use attention::attention;
pub use float::matmul;

use integer::{Operands, Rows};

use super::Backend;
use crate::error::ForwardError;
use crate::layers::BatchNorm2d;
use crate::ops::{Conv2dOptions, Pool, Unary};
use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;

impl Backend for ArrayD<f32> {
    type Activation = Self;

    fn linear(
        x: &Self,
        weight: &Param<Self>,
        bias: Option<&Param<Self>>,
        input: &ActivationQuantizer,
    ) -> Result<Self, ForwardError> {
        let bias_shape = bias.map(Param::shape);
        let shape = check_linear(x.shape(), &weight.shape(), bias_shape.as_deref(), input)?;
        let values = FloatTensor::values(x);
        let rows = x.shape()[..x.ndim() - 1].iter().product();
        input.observe(&values)?;
        let bias = bias.map(Param::value);
        let bias = bias.as_ref().map(|bias| FloatTensor::values(&**bias));
        let bias = bias.as_deref();
        let mut y = vec![0.0; shape.iter().product()];
        match weight.quantized() {
            None => {
                ForwardError::check_float(input)?;
                float::linear(&values, rows, weight, bias, &mut y)?;
            }
            Some(tensor) => {
                let x = Rows { values: &values, count: rows };
                integer::linear(Operands { x, bias, input }, tensor, weight.cache(), &mut y)?;
            }
        }
        Ok(array(&shape, y))
    }

    fn conv2d(
        x: &Self,
        weight: &Param<Self>,
        bias: Option<&Param<Self>>,
        options: Conv2dOptions,
        input: &ActivationQuantizer,
    ) -> Result<Self, ForwardError> {
        let geometry = conv::check(x.shape(), &weight.shape(), options, input)?;
        let bias_shape = bias.map(Param::shape);
        check_bias(bias_shape.as_deref(), geometry.shape.out_channels, input)?;
        let values = FloatTensor::values(x);
        input.observe(&values)?;
        let bias = bias.map(Param::value);
        let bias = bias.as_ref().map(|bias| FloatTensor::values(&**bias));
        let bias = bias.as_deref();
        let mut y = vec![0.0; geometry.output_dims().iter().product()];
        let mut float = |weight: &Self| {
            conv::conv2d(&values, &FloatTensor::values(weight), bias, &geometry, &mut y);
        };
        match weight.quantized() {
            None => {
                ForwardError::check_float(input)?;
                float(&weight.value());
            }
            Some(_) if integer::stays_float(input) => float(&*float::dequantized(weight)?),
            Some(tensor) => {
                let x = geometry.images(&values);
                let operands = Operands { x, bias, input };
                integer::conv2d(operands, geometry.shape, tensor, weight.cache(), &mut y)?;
            }
        }
        Ok(array(&geometry.output_dims(), y))
    }

    fn batch_norm(x: &Self, norm: &BatchNorm2d<Self>) -> Result<Self, ForwardError> {
        let params = [&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var];
        let params = params.map(Param::value);
        let [gamma, beta, mean, variance] =
            params.each_ref().map(|param| FloatTensor::values(&**param));
        let &[_, channels, height, width] = x.shape() else {
            return Err(images_expected(x.shape()));
        };
        if [&gamma, &beta, &mean, &variance].iter().any(|values| values.len() != channels) {
            return Err(images_expected(x.shape()));
        }
        let mut y = FloatTensor::values(x).into_owned();
        batch_norm(&mut y, height * width, [&gamma, &beta, &mean, &variance], norm.epsilon);
        Ok(array(x.shape(), y))
    }

    fn pool2d(x: &Self, pool: Pool) -> Result<Self, ForwardError> {
        let &[batch, channels, height, width] = x.shape() else {
            return Err(images_expected(x.shape()));
        };
        let output = pool.output_size([height, width]);
        let output = output.ok_or_else(|| images_expected(x.shape()))?;
        let y = conv::pool2d(&FloatTensor::values(x), [height, width], pool, output);
        Ok(array(&[batch, channels, output[0], output[1]], y))
    }

    fn embedding(indices: &[u32], weight: &Param<Self>) -> Result<Self, ForwardError> {
        let columns = check_indices(indices, &weight.shape())?;
        let mut y = vec![0.0; indices.len() * columns];
        match weight.quantized() {
            Some(tensor) => integer::embedding(indices, tensor, &mut y)?,
            None => {
                let values = weight.value();
                let values = FloatTensor::values(&*values);
                for (&index, y) in indices.iter().zip(y.chunks_mut(columns.max(1))) {
                    y.copy_from_slice(&values[index as usize * columns..][..columns]);
                }
            }
        }
        Ok(array(&[indices.len(), columns], y))
    }

    fn layer_norm(
        x: &Self,
        weight: &Param<Self>,
        bias: &Param<Self>,
        epsilon: f32,
    ) -> Result<Self, ForwardError> {
        let (weight, bias) = (weight.value(), bias.value());
        let (weight, bias) = (FloatTensor::values(&*weight), FloatTensor::values(&*bias));
        let n = x.shape().last().copied().unwrap_or(1);
        if weight.len() != n || bias.len() != n {
            let expected = format!("[…, {}]", weight.len());
            let found = x.shape().to_vec();
            return Err(ForwardError::Shape { layer: "layer norm".into(), expected, found });
        }
        let mut y = FloatTensor::values(x).into_owned();
        float::layer_norm(&mut y, &weight, &bias, epsilon);
        Ok(array(x.shape(), y))
    }

    fn flatten(x: Self, axis: usize) -> Result<Self, ForwardError> {
        let shape = flattened(x.shape(), axis)?;
        Ok(array(&shape, x.into_values()))
    }

    fn unary(x: Self, function: Unary) -> Result<Self, ForwardError> {
        Ok(on_values(x, |values| float::unary(values, function)))
    }

    fn softmax(x: Self) -> Result<Self, ForwardError> {
        let row = x.shape().last().copied().unwrap_or(1).max(1);
        Ok(on_values(x, |values| float::softmax(values, row)))
    }
}

/// Normalizes images, whose channels have `pixels` elements, in place.
pub(crate) fn batch_norm(
    y: &mut [f32],
    pixels: usize,
    [gamma, beta, mean, variance]: [&[f32]; 4],
    epsilon: f32,
) {
    for (i, y) in y.chunks_mut(pixels.max(1)).enumerate() {
        let c = i % gamma.len();
        let factor = gamma[c] / (variance[c] + epsilon).sqrt();
        y.iter_mut().for_each(|y| *y = (*y - mean[c]) * factor + beta[c]);
    }
}

/// The shape with the axes from `axis` on joined.
pub(crate) fn flattened(shape: &[usize], axis: usize) -> Result<Vec<usize>, ForwardError> {
    if axis >= shape.len() {
        let (expected, found) = (format!("an axis {axis}"), shape.into());
        return Err(ForwardError::Shape { layer: "flatten".into(), expected, found });
    }
    let (kept, joined) = shape.split_at(axis);
    Ok(kept.iter().copied().chain([joined.iter().product()]).collect())
}

/// The number of columns of an embedding's weight, all of whose rows that are asked for exist.
pub(crate) fn check_indices(indices: &[u32], weight: &[usize]) -> Result<usize, ForwardError> {
    let &[rows, columns] = weight else {
        let (expected, found) = ("[rows, columns]".into(), weight.into());
        return Err(ForwardError::Shape { layer: "embedding".into(), expected, found });
    };
    match indices.iter().position(|&index| index as usize >= rows) {
        Some(position) => Err(ForwardError::Index { position, index: indices[position], rows }),
        None => Ok(columns),
    }
}

/// The shape of `x · wᵀ + b`.
pub(crate) fn check_linear(
    x: &[usize],
    weight: &[usize],
    bias: Option<&[usize]>,
    input: &ActivationQuantizer,
) -> Result<Vec<usize>, ForwardError> {
    let (&[outputs, inputs], Some((&last, rows))) = (weight, x.split_last()) else {
        return Err(ForwardError::shape(input, "[out, in] times […, in]", x));
    };
    if last != inputs {
        return Err(ForwardError::shape(input, format!("[…, {inputs}]"), x));
    }
    check_bias(bias, outputs, input)?;
    Ok([rows, &[outputs]].concat())
}

pub(crate) fn check_bias(
    bias: Option<&[usize]>,
    outputs: usize,
    input: &ActivationQuantizer,
) -> Result<(), ForwardError> {
    match bias {
        Some(shape) if *shape != [outputs] => {
            Err(ForwardError::shape(input, format!("a bias of [{outputs}]"), shape))
        }
        _ => Ok(()),
    }
}

/// `x` with its values, in row-major order, changed in place.
fn on_values(x: ArrayD<f32>, f: impl FnOnce(&mut [f32])) -> ArrayD<f32> {
    let shape = x.shape().to_vec();
    let mut values = x.into_values();
    f(&mut values);
    array(&shape, values)
}

/// The array of as many values as the shape has elements.
fn array(shape: &[usize], values: Vec<f32>) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), values).expect("as many values as the shape has elements")
}

pub(crate) fn images_expected(found: &[usize]) -> ForwardError {
    let expected = "[batch, channels, height, width], with room for a window".into();
    ForwardError::Shape { layer: "images".into(), expected, found: found.into() }
}
