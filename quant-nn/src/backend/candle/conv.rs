//! Convolutions, with gradients, and the batch norm that is folded into them in training.

use candle_core::{DType, Result as CandleResult, Tensor};
use quant::Param;

use super::emulated_conv::{self, Emulated};
use super::input::{ConvArgs, fake_quantized, observe, observe_outputs};
use super::op::{add_bias_gradient, precomputed_binary, straight_through};
use super::tensor::{Storage, values};
use super::weight::{Weight, weight_graph};
use super::{backend_error, emulated};
use crate::backend::Backend;
use crate::backend::conv_options::ConvOptions;
use crate::backend::ndarray::convolution::Convolution;
use crate::backend::ndarray::integer::{self, Operands};
use crate::backend::shape::{self, LayerInput};
use crate::error::ForwardError;
use crate::fold::fold;
use crate::ops::{BatchNormParams, ConvParams};
use crate::train_state::FakeWeight;

/// A kind of convolution that runs on slices and, where there are no integer kernels, by candle.
pub(super) trait Runs: ConvOptions<Geometry: Convolution, In2d: Emulated> {}

impl<O: ConvOptions<Geometry: Convolution, In2d: Emulated>> Runs for O {}

/// A convolution of any kind.
pub(super) fn convolve<T: Storage, O: Runs>(
    x: &Tensor,
    conv: ConvParams<'_, T, O>,
) -> Result<Tensor, ForwardError> {
    let layer = conv.options.layer(conv.input);
    let bias = conv.bias.map(Param::value);
    let bias = bias.as_deref().map(Storage::tensor);
    let args = ConvArgs { bias, options: conv.options, layer };
    let y = run(x, &Weight::of(conv.weight, layer)?, &conv.weight.shape(), args)?;
    observe_outputs(y, 1, layer)
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
    let layer = conv.options.layer(conv.input);
    let (weight, bias) = fold(conv, norm)?;
    let gradients = folding_graph(conv, norm).map_err(backend_error)?;
    let with_gradient = |value: &T, gradient| straight_through(value.tensor(), gradient);
    let weight = with_gradient(&weight, &gradients[0]).map_err(backend_error)?;
    let bias = with_gradient(&bias, &gradients[1]).map_err(backend_error)?;
    let shape = weight.dims().to_vec();
    let weight = Weight::<T>::of_float(&weight, Some(fake), layer)?;
    let args = ConvArgs { bias: Some(&bias), options: conv.options, layer };
    observe_outputs(run(x, &weight, &shape, args)?, 1, layer)
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
fn run<T: Storage, O: Runs>(
    x: &Tensor,
    weight: &Weight<'_, T>,
    weight_shape: &[usize],
    args: ConvArgs<'_, O>,
) -> Result<Tensor, ForwardError> {
    let ConvArgs { bias, options, layer } = args;
    let geometry = options.geometry(x.dims(), weight_shape, layer)?;
    shape::check_bias(bias.map(Tensor::dims), geometry.out_channels(), layer)?;
    observe(x, layer, None)?;
    if layer.quantizer.observes_moments() {
        let x = x.to_dtype(DType::F32).and_then(|x| values(&x)).map_err(backend_error)?;
        geometry.observe_moments(&x, layer.quantizer)?;
    }
    let dims = geometry.output_dims();
    let on_cpu = !emulated::is_used(x) && x.dtype() == DType::F32;
    match weight {
        Weight::Float(weight) if !on_cpu => {
            return emulated_conv::in_floats(x, weight, args, &dims);
        }
        Weight::Fake(codes, graph) if !on_cpu => {
            return emulated_conv::in_whole_numbers(x, codes, graph, args, &dims);
        }
        _ => {}
    }
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32).map_err(backend_error)?;
    let x_values = values(&x).map_err(backend_error)?;
    let y = run_on_slices(&x_values, weight, &geometry, bias, layer)?;
    let Some(graph) = weight_graph(weight, &x)? else {
        return Tensor::from_vec(y, dims, x.device())
            .and_then(|y| y.to_dtype(dtype))
            .map_err(backend_error);
    };
    let x = match weight {
        Weight::Float(_) => x,
        _ => fake_quantized(&x, &x_values, layer, geometry.image_len())?,
    };
    conv_with_gradients(&x, &graph, geometry, y)
        .and_then(|y| add_bias_gradient(y, bias, sum_of_channels))
        .map_err(backend_error)
}

/// The sum for each channel of `[batch, channel, …]`.
fn sum_of_channels(dy: &Tensor) -> CandleResult<Tensor> {
    dy.flatten_from(2)?.sum((0, 2))
}

/// The values of the convolution, computed on the CPU.
fn run_on_slices<T: Storage>(
    x: &[f32],
    weight: &Weight<'_, T>,
    geometry: &impl Convolution,
    bias: Option<&Tensor>,
    layer: LayerInput<'_>,
) -> Result<Vec<f32>, ForwardError> {
    let bias = bias.map(values).transpose().map_err(backend_error)?;
    let bias = bias.as_deref();
    let mut y = vec![0.0; geometry.output_dims().iter().product()];
    match weight {
        Weight::Float(weight) => {
            geometry.in_floats(x, &values(weight).map_err(backend_error)?, bias, &mut y);
        }
        Weight::Fake(codes, _) if integer::stays_float(layer.quantizer) => {
            geometry.in_floats(x, &codes.dequantize(), bias, &mut y);
        }
        Weight::Fake(codes, _) => {
            geometry.in_integers(Operands { x, bias, layer }, codes, None, &mut y)?;
        }
        Weight::Quantized(param, tensor) => {
            geometry.with_quantized(x, tensor, param.cache(), (bias, layer), &mut y)?;
        }
    }
    Ok(y)
}

/// The value `y`, with the gradients of the float convolution of `x` and `weight`.
fn conv_with_gradients(
    x: &Tensor,
    weight: &Tensor,
    geometry: impl Convolution,
    y: Vec<f32>,
) -> CandleResult<Tensor> {
    let (x_value, w_value) = (x.detach(), weight.detach());
    precomputed_binary("convolution", [x, weight], geometry.output_dims(), y, move |dy| {
        let (x, w, dy) = (values(&x_value)?, values(&w_value)?, values(dy)?);
        let (dx, dw) = geometry.backward(&x, &w, &dy);
        let dx = Tensor::from_vec(dx, x_value.shape(), x_value.device())?;
        let dw = Tensor::from_vec(dw, w_value.shape(), w_value.device())?;
        Ok([Some(dx), Some(dw)])
    })
}
