//! How layers run over candle's tensors.

use candle_core::{D, DType, Result as CandleResult, Tensor, Var};

use super::backend;
use super::op::{given1, straight_through};
use super::product::{self, Conv, Weight};
use super::tensor::{Storage, values};
use crate::backend::Backend;
use crate::backend::ndarray::{self as host, conv, float, images_expected, integer};
use crate::error::ForwardError;
use crate::layers::{BatchNorm2d, Conv2d};
use crate::ops::{Conv2dOptions, Pool, Unary};
use crate::training::{FakeWeight, learns_statistics};
use quant::Param;
use quant::activation::ActivationQuantizer;

macro_rules! execute {
    ($storage:ty) => {
        impl Backend for $storage {
            type Activation = Tensor;

            fn linear(
                x: &Tensor,
                weight: &Param<Self>,
                bias: Option<&Param<Self>>,
                input: &ActivationQuantizer,
            ) -> Result<Tensor, ForwardError> {
                product::linear(x, weight, bias, input)
            }

            fn conv2d(
                x: &Tensor,
                weight: &Param<Self>,
                bias: Option<&Param<Self>>,
                options: Conv2dOptions,
                input: &ActivationQuantizer,
            ) -> Result<Tensor, ForwardError> {
                conv2d(x, weight, bias, options, input)
            }

            fn conv2d_norm(
                x: &Tensor,
                conv: &Conv2d<Self>,
                norm: &BatchNorm2d<Self>,
            ) -> Result<Tensor, ForwardError> {
                conv2d_norm(x, conv, norm)
            }

            fn batch_norm(x: &Tensor, norm: &BatchNorm2d<Self>) -> Result<Tensor, ForwardError> {
                batch_norm(x, norm)
            }

            fn pool2d(x: &Tensor, pool: Pool) -> Result<Tensor, ForwardError> {
                pool2d(x, pool)
            }

            fn embedding(indices: &[u32], weight: &Param<Self>) -> Result<Tensor, ForwardError> {
                embedding(indices, weight)
            }

            fn layer_norm(
                x: &Tensor,
                weight: &Param<Self>,
                bias: &Param<Self>,
                epsilon: f32,
            ) -> Result<Tensor, ForwardError> {
                layer_norm(x, weight, bias, epsilon)
            }

            fn flatten(x: Tensor, axis: usize) -> Result<Tensor, ForwardError> {
                let shape = host::flattened(x.dims(), axis)?;
                x.reshape(shape).map_err(backend)
            }

            fn unary(x: Tensor, function: Unary) -> Result<Tensor, ForwardError> {
                unary(&x, function).map_err(backend)
            }

            fn softmax(x: Tensor) -> Result<Tensor, ForwardError> {
                softmax(&x).map_err(backend)
            }
        }
    };
}

execute!(Tensor);
execute!(Var);

/// Whether the host's functions can compute with this tensor.
fn is_host(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

fn conv2d<T: Storage>(
    x: &Tensor,
    weight: &Param<T>,
    bias: Option<&Param<T>>,
    options: Conv2dOptions,
    input: &ActivationQuantizer,
) -> Result<Tensor, ForwardError> {
    let bias = bias.map(Param::value);
    let conv = Conv { bias: bias.as_deref().map(Storage::tensor), options, input };
    product::conv2d(x, &Weight::of(weight, input)?, &weight.shape(), &conv)
}

/// With the weight float and as it is, the one after the other; with a weight that is quantized in
/// training, the convolution into which the norm is folded.
fn conv2d_norm<T: Storage + Backend<Activation = Tensor>>(
    x: &Tensor,
    conv: &Conv2d<T>,
    norm: &BatchNorm2d<T>,
) -> Result<Tensor, ForwardError> {
    let Some(fake) = FakeWeight::active(&conv.weight) else {
        return T::batch_norm(&conv.forward(x)?, norm);
    };
    let folded = conv.fold(norm)?;
    let values = [Some(&folded.weight), folded.bias.as_ref()];
    let [Some(weight), Some(bias)] = values.map(|param| param.and_then(Param::as_float)) else {
        let expected = "a norm that can be folded";
        return Err(ForwardError::shape(&conv.input, expected, &conv.weight.shape()));
    };
    let gradients = folding(conv, norm).map_err(backend)?;
    let with_gradient = |value: &T, gradient| straight_through(value.tensor(), gradient);
    let weight = with_gradient(weight, &gradients[0]).map_err(backend)?;
    let bias = with_gradient(bias, &gradients[1]).map_err(backend)?;
    let shape = weight.dims().to_vec();
    let weight = Weight::<T>::of_float(&weight, Some(fake), &conv.input)?;
    let conv = Conv { bias: Some(&bias), options: conv.options, input: &conv.input };
    product::conv2d(x, &weight, &shape, &conv)
}

/// The folded weight and bias as candle's graph; `Conv2d::fold` has the values.
fn folding<T: Storage>(conv: &Conv2d<T>, norm: &BatchNorm2d<T>) -> CandleResult<[Tensor; 2]> {
    let [gamma, beta, mean, variance] =
        [&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var].map(Param::value);
    let (mean, variance) = (mean.tensor().detach(), variance.tensor().detach());
    let factor = gamma.tensor().div(&(variance + f64::from(norm.epsilon))?.sqrt()?)?;
    let weight = conv.weight.value();
    let shifted = match &conv.bias {
        Some(bias) => bias.value().tensor().sub(&mean)?,
        None => mean.neg()?,
    };
    let bias = (shifted * &factor)?.add(beta.tensor())?;
    let factor = factor.reshape(((), 1, 1, 1))?;
    Ok([weight.tensor().broadcast_mul(&factor)?, bias])
}

/// How fast running statistics move: `μ += 0.1 · (μ of the batch - μ)`.
const MOMENTUM: f64 = 0.1;

fn batch_norm<T: Storage>(x: &Tensor, norm: &BatchNorm2d<T>) -> Result<Tensor, ForwardError> {
    let &[_, channels, height, width] = x.dims() else { return Err(images_expected(x.dims())) };
    let params = [&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var];
    if params.iter().any(|param| *param.shape() != [channels]) {
        return Err(images_expected(x.dims()));
    }
    let params = params.map(Param::value);
    let [gamma, beta, mean, variance] = params.each_ref().map(|param| param.tensor());
    if learns_statistics() {
        let y = batch_norm_learning(x, [gamma, beta, mean, variance], norm.epsilon);
        return y.map_err(backend);
    }
    let per_channel = |t: &Tensor| t.reshape((1, channels, 1, 1));
    let graph = || {
        // Statistics are learned, but not by their gradient.
        let (mean, variance) = (&mean.detach(), variance.detach());
        let factor = gamma.div(&(variance + f64::from(norm.epsilon))?.sqrt()?)?;
        x.broadcast_sub(&per_channel(mean)?)?
            .broadcast_mul(&per_channel(&factor)?)?
            .broadcast_add(&per_channel(beta)?)
    };
    if !is_host(x) {
        return graph().map_err(backend);
    }
    let values = || -> CandleResult<Tensor> {
        let [gamma, beta, mean, variance] = [gamma, beta, mean, variance].map(values);
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        let params = [&*gamma, &*beta, &*mean, &*variance];
        let mut y = values(x)?;
        host::batch_norm(&mut y, height * width, params, norm.epsilon);
        Tensor::from_vec(y, x.shape(), x.device())
    };
    on_graph(values, graph, [x, gamma, beta]).map_err(backend)
}

/// By the statistics of the batch, which the running ones follow.
fn batch_norm_learning(
    x: &Tensor,
    [gamma, beta, mean, variance]: [&Tensor; 4],
    epsilon: f32,
) -> CandleResult<Tensor> {
    let per_channel = |t: &Tensor| t.reshape((1, (), 1, 1));
    let (batch, channels, height, width) = x.dims4()?;
    let count = (batch * height * width) as f64;
    if count == 0.0 {
        return Ok(x.clone());
    }
    let batch_mean = (x.sum((0, 2, 3))? / count)?;
    let centred = x.broadcast_sub(&per_channel(&batch_mean)?)?;
    let batch_variance = (centred.sqr()?.sum((0, 2, 3))? / count)?;
    let unbiased = (batch_variance.detach() * (count / (count - 1.0).max(1.0)))?;
    for (running, of_batch) in [(mean, batch_mean.detach()), (variance, unbiased)] {
        let moved = ((running.detach() * (1.0 - MOMENTUM))? + (of_batch * MOMENTUM)?)?;
        // A constant stays one; a variable follows.
        if running.is_variable() {
            Var::from_tensor(running)?.set(&moved)?;
        }
    }
    let factor = gamma.div(&(batch_variance + f64::from(epsilon))?.sqrt()?)?;
    debug_assert_eq!(factor.dims(), [channels]);
    centred.broadcast_mul(&per_channel(&factor)?)?.broadcast_add(&per_channel(beta)?)
}

/// The host's values, with the gradients of candle's graph where one of `args` needs them.
fn on_graph<const N: usize>(
    values: impl FnOnce() -> CandleResult<Tensor>,
    graph: impl FnOnce() -> CandleResult<Tensor>,
    args: [&Tensor; N],
) -> CandleResult<Tensor> {
    let values = values()?;
    if args.iter().any(|arg| arg.track_op()) {
        straight_through(&values, &graph()?)
    } else {
        Ok(values)
    }
}

fn pool2d(x: &Tensor, pool: Pool) -> Result<Tensor, ForwardError> {
    let &[batch, channels, height, width] = x.dims() else {
        return Err(images_expected(x.dims()));
    };
    let size = [height, width];
    let output = pool.output_size(size).ok_or_else(|| images_expected(x.dims()))?;
    if !is_host(x) {
        let (window, stride) = (pool.size().into(), pool.stride().into());
        let window: (usize, usize) = window;
        return match pool {
            Pool::Max { .. } => x.max_pool2d_with_stride(window, stride),
            Pool::Average { .. } => x.avg_pool2d_with_stride(window, stride),
        }
        .map_err(backend);
    }
    let run = || {
        let y = conv::pool2d(&values(x)?, size, pool, output);
        let held = x.detach();
        given1("pool2d", x, (batch, channels, output[0], output[1]), y, move |dy| {
            let dx = conv::pool2d_backward(&values(&held)?, size, pool, output, &values(dy)?);
            Tensor::from_vec(dx, held.shape(), held.device())
        })
    };
    run().map_err(backend)
}

fn embedding<T: Storage>(indices: &[u32], weight: &Param<T>) -> Result<Tensor, ForwardError> {
    let columns = host::check_indices(indices, &weight.shape())?;
    let nobody = ActivationQuantizer::new();
    let select = |table: &Tensor| {
        if indices.is_empty() {
            return Tensor::zeros((0, columns), table.dtype(), table.device());
        }
        table.index_select(&Tensor::new(indices, table.device())?, 0)
    };
    match Weight::of(weight, &nobody)? {
        Weight::Float(table) | Weight::Fake(_, table) => select(&table).map_err(backend),
        Weight::Stored(_, tensor) => {
            let mut y = vec![0.0; indices.len() * columns];
            integer::embedding(indices, tensor, &mut y)?;
            Tensor::from_vec(y, (indices.len(), columns), weight.device().device()).map_err(backend)
        }
    }
}

fn layer_norm<T: Storage>(
    x: &Tensor,
    weight: &Param<T>,
    bias: &Param<T>,
    epsilon: f32,
) -> Result<Tensor, ForwardError> {
    let (weight, bias) = (weight.value(), bias.value());
    let (weight, bias) = (weight.tensor(), bias.tensor());
    let n = x.dims().last().copied().unwrap_or(1);
    if weight.dims() != [n] || bias.dims() != [n] {
        let expected = format!("[…, {}]", weight.elem_count());
        let (layer, found) = ("layer norm".into(), x.dims().to_vec());
        return Err(ForwardError::Shape { layer, expected, found });
    }
    let graph = || {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)?;
        normal.broadcast_mul(weight)?.broadcast_add(bias)
    };
    if !is_host(x) {
        return graph().map_err(backend);
    }
    let computed = || {
        let mut y = values(x)?;
        float::layer_norm(&mut y, &values(weight)?, &values(bias)?, epsilon);
        Tensor::from_vec(y, x.shape(), x.device())
    };
    on_graph(computed, graph, [x, weight, bias]).map_err(backend)
}

fn unary(x: &Tensor, function: Unary) -> CandleResult<Tensor> {
    if !is_host(x) {
        return match function {
            Unary::Relu => x.relu(),
            Unary::Gelu => x.gelu_erf(),
            Unary::Tanh => x.tanh(),
            Unary::Sigmoid => ((x.neg()?.exp()? + 1.0)?).recip(),
        };
    }
    let mut y = values(x)?;
    float::unary(&mut y, function);
    let held = if function == Unary::Gelu { values(x)? } else { y.clone() };
    given1("unary", x, x.shape(), y, move |dy| {
        let slopes = held.iter().map(|&value| slope(function, value));
        let slopes = Tensor::from_vec(slopes.collect(), dy.shape(), dy.device())?;
        dy.mul(&slopes)
    })
}

/// The derivative of a function, given its value; of GELU, given its argument.
fn slope(function: Unary, value: f32) -> f32 {
    match function {
        Unary::Relu => f32::from(u8::from(value > 0.0)),
        Unary::Tanh => 1.0 - value * value,
        Unary::Sigmoid => value * (1.0 - value),
        Unary::Gelu => {
            let x = f64::from(value);
            let density = (-0.5 * x * x).exp() / core::f64::consts::TAU.sqrt();
            (0.5 * (1.0 + candle_core::cpu::erf::erf_f64(x / core::f64::consts::SQRT_2))
                + x * density) as f32
        }
    }
}

fn softmax(x: &Tensor) -> CandleResult<Tensor> {
    if !is_host(x) || x.rank() == 0 {
        let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
        return exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?);
    }
    let mut y = values(x)?;
    float::softmax(&mut y, x.dims().last().copied().unwrap_or(1).max(1));
    let held = Tensor::from_slice(&y, x.shape(), x.device())?;
    given1("softmax", x, x.shape(), y, move |dy| {
        let product = (dy * &held)?;
        &product - held.broadcast_mul(&product.sum_keepdim(D::Minus1)?)?
    })
}
