//! Convolutions, with gradients, and the batch norm that is folded into them in training.

use candle_core::{DType, Result as CandleResult, Tensor};
use quant::Param;

use super::input::{ConvArgs, fake_quantized, observe};
use super::op::{add_bias_gradient, precomputed_binary, straight_through};
use super::tensor::{Storage, values};
use super::weight::{Weight, weight_graph};
use super::{backend_error, emulated, emulated_conv};
use crate::backend::Backend;
use crate::backend::conv_shape::ConvGeometry;
use crate::backend::ndarray::integer::{self, Operands};
use crate::backend::ndarray::{float, float_conv, integer_conv};
use crate::backend::shape::{self, LayerInput};
use crate::error::ForwardError;
use crate::fold::fold;
use crate::ops::{BatchNormParams, ConvParams};
use crate::train_state::FakeWeight;

pub(super) fn conv2d<T: Storage>(
    x: &Tensor,
    conv: ConvParams<'_, T>,
) -> Result<Tensor, ForwardError> {
    let layer = LayerInput::conv2d(conv.input);
    let bias = conv.bias.map(Param::value);
    let bias = bias.as_deref().map(Storage::tensor);
    let args = ConvArgs { bias, options: conv.options, layer };
    run(x, &Weight::of(conv.weight, layer)?, &conv.weight.shape(), args)
}

/// The convolution, then the norm, while the weight is float. The convolution into which the norm
/// is folded, while the weight is quantized in training.
pub(super) fn conv2d_norm<T: Storage + Backend<Activation = Tensor>>(
    x: &Tensor,
    conv: ConvParams<'_, T>,
    norm: BatchNormParams<'_, T>,
) -> Result<Tensor, ForwardError> {
    let Some(fake) = FakeWeight::active(conv.weight) else {
        return T::batch_norm(&T::conv2d(x, conv)?, norm);
    };
    let layer = LayerInput::conv2d(conv.input);
    let (weight, bias) = fold(conv, norm)?;
    let gradients = folding_graph(conv, norm).map_err(backend_error)?;
    let with_gradient = |value: &T, gradient| straight_through(value.tensor(), gradient);
    let weight = with_gradient(&weight, &gradients[0]).map_err(backend_error)?;
    let bias = with_gradient(&bias, &gradients[1]).map_err(backend_error)?;
    let shape = weight.dims().to_vec();
    let weight = Weight::<T>::of_float(&weight, Some(fake), layer)?;
    run(x, &weight, &shape, ConvArgs { bias: Some(&bias), options: conv.options, layer })
}

/// The folded weight and bias in candle's graph, for their gradients; their values are those of
/// [`fold`].
fn folding_graph<T: Storage>(
    conv: ConvParams<'_, T>,
    norm: BatchNormParams<'_, T>,
) -> CandleResult<[Tensor; 2]> {
    let [gamma, beta, mean, variance] = norm.params().map(Param::value);
    let (mean, variance) = (mean.tensor().detach(), variance.tensor().detach());
    let factor = gamma.tensor().div(&(variance + f64::from(norm.epsilon))?.sqrt()?)?;
    let weight = conv.weight.value();
    let shifted = match conv.bias {
        Some(bias) => bias.value().tensor().sub(&mean)?,
        None => mean.neg()?,
    };
    let bias = (shifted * &factor)?.add(beta.tensor())?;
    let factor = factor.reshape(((), 1, 1, 1))?;
    Ok([weight.tensor().broadcast_mul(&factor)?, bias])
}

/// The convolution of `x` with a weight of this shape.
fn run<T: Storage>(
    x: &Tensor,
    weight: &Weight<'_, T>,
    weight_shape: &[usize],
    args: ConvArgs<'_>,
) -> Result<Tensor, ForwardError> {
    let ConvArgs { bias, options, layer } = args;
    let geometry = ConvGeometry::new(x.dims(), weight_shape, options, layer)?;
    shape::check_bias(bias.map(Tensor::dims), geometry.shape.out_channels, layer)?;
    observe(x, layer)?;
    let on_cpu = !emulated::is_used(x) && x.dtype() == DType::F32;
    match weight {
        Weight::Float(weight) if !on_cpu => {
            return emulated_conv::float_conv2d(x, weight, bias, options).map_err(backend_error);
        }
        Weight::Fake(codes, graph) if !on_cpu => {
            return emulated_conv::conv2d(x, codes, graph, args);
        }
        _ => {}
    }
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32).map_err(backend_error)?;
    let x_values = values(&x).map_err(backend_error)?;
    let y = run_on_slices(&x_values, weight, &geometry, args)?;
    let dims = geometry.output_dims();
    let Some(graph) = weight_graph(weight, &x)? else {
        return Tensor::from_vec(y, &dims, x.device())
            .and_then(|y| y.to_dtype(dtype))
            .map_err(backend_error);
    };
    let x = match weight {
        Weight::Float(_) => x,
        _ => fake_quantized(&x, &x_values, layer, geometry.image_len())?,
    };
    conv_with_gradients(&x, &graph, geometry, y)
        .and_then(|y| add_bias_gradient(y, bias, |dy| dy.sum((0, 2, 3))))
        .map_err(backend_error)
}

/// The values of the convolution, computed on the CPU.
fn run_on_slices<T: Storage>(
    x: &[f32],
    weight: &Weight<'_, T>,
    geometry: &ConvGeometry,
    args: ConvArgs<'_>,
) -> Result<Vec<f32>, ForwardError> {
    let ConvArgs { bias, layer, .. } = args;
    let bias = bias.map(values).transpose().map_err(backend_error)?;
    let bias = bias.as_deref();
    let mut y = vec![0.0; geometry.output_dims().iter().product()];
    let is_float = integer::stays_float(layer.quantizer);
    let operands = Operands { x: float_conv::images(geometry, x), bias, layer };
    let mut in_floats = |weight: &[f32]| float_conv::conv2d(x, weight, bias, geometry, &mut y);
    match weight {
        Weight::Float(weight) => in_floats(&values(weight).map_err(backend_error)?),
        Weight::Fake(codes, _) if is_float => in_floats(&codes.dequantize()),
        Weight::Quantized(param, tensor) if is_float => {
            in_floats(&float::dequantized(tensor, param.cache())?);
        }
        Weight::Fake(codes, _) => {
            integer_conv::conv2d_once(operands, geometry.shape, codes, &mut y)?;
        }
        Weight::Quantized(param, tensor) => {
            integer_conv::conv2d(operands, geometry.shape, tensor, param.cache(), &mut y)?;
        }
    }
    Ok(y)
}

/// The value `y`, with the gradients of the float convolution of `x` and `weight`.
fn conv_with_gradients(
    x: &Tensor,
    weight: &Tensor,
    geometry: ConvGeometry,
    y: Vec<f32>,
) -> CandleResult<Tensor> {
    let (x_value, w_value) = (x.detach(), weight.detach());
    precomputed_binary("conv2d", [x, weight], &geometry.output_dims(), y, move |dy| {
        let (x, w, dy) = (values(&x_value)?, values(&w_value)?, values(dy)?);
        let (dx, dw) = float_conv::conv2d_backward(&x, &w, &geometry, &dy);
        let dx = Tensor::from_vec(dx, x_value.shape(), x_value.device())?;
        let dw = Tensor::from_vec(dw, w_value.shape(), w_value.device())?;
        Ok([Some(dx), Some(dw)])
    })
}
