//! Dense products, with gradients.

use candle_core::{DType, Result as CandleResult, Tensor};
use quant::Param;

use super::input::{fake_quantized, observe, observe_outputs};
use super::op::{add_bias_gradient, precomputed_binary};
use super::tensor::{Storage, values};
use super::weight::{Weight, weight_graph};
use super::{backend_error, emulated};
use crate::backend::ndarray::integer::{self, Operands, Rows};
use crate::backend::shape::{self, LayerInput};
use crate::error::ForwardError;

/// `x · wᵀ + b`
pub(super) fn linear<T: Storage>(
    x: &Tensor,
    weight: &Param<T>,
    bias: Option<&Param<T>>,
    layer: LayerInput<'_>,
) -> Result<Tensor, ForwardError> {
    observe_outputs(product(x, weight, bias, layer)?, x.rank() - 1, layer)
}

fn product<T: Storage>(
    x: &Tensor,
    weight: &Param<T>,
    bias: Option<&Param<T>>,
    layer: LayerInput<'_>,
) -> Result<Tensor, ForwardError> {
    let (weight_shape, bias_shape) = (weight.shape(), bias.map(Param::shape));
    shape::linear(x.dims(), &weight_shape, bias_shape.as_deref(), layer)?;
    observe(x, layer, weight_shape.get(1).copied())?;
    let bias = bias.map(Param::value);
    let bias = bias.as_deref().map(Storage::tensor);
    let (outputs, inputs) = (weight_shape[0], weight_shape[1]);
    let rows: usize = x.dims()[..x.rank() - 1].iter().product();
    let shape = [&x.dims()[..x.rank() - 1], &[outputs]].concat();
    let weight = Weight::of(weight, layer)?;
    if let Weight::Float(weight) = &weight {
        return float_linear(x, weight, bias, rows, &shape).map_err(backend_error);
    }
    if emulated::is_used(x)
        && let Weight::Fake(codes, graph) = &weight
    {
        return emulated::linear(x, codes, graph, bias, layer);
    }
    let (dtype, x) = (x.dtype(), x.to_dtype(DType::F32).map_err(backend_error)?);
    let x_values = values(&x).map_err(backend_error)?;
    let bias_values = bias.map(values).transpose().map_err(backend_error)?;
    let mut y = vec![0.0; rows * outputs];
    let operands = Operands {
        x: Rows { values: &x_values, count: rows },
        bias: bias_values.as_deref(),
        layer,
    };
    match &weight {
        Weight::Float(_) => {}
        Weight::Fake(codes, _) => integer::linear_once(operands, codes, &mut y)?,
        Weight::Quantized(param, tensor) => {
            integer::linear(operands, tensor, param.cache(), &mut y)?;
        }
    }
    let Some(graph) = weight_graph(&weight, &x)? else {
        return Tensor::from_vec(y, shape, x.device())
            .and_then(|y| y.to_dtype(dtype))
            .map_err(backend_error);
    };
    let x = fake_quantized(&x, &x_values, layer, inputs)?;
    linear_with_gradients(&x, &graph, rows, &shape, y)
        .and_then(|y| add_bias_gradient(y, bias, move |dy| dy.reshape((rows, outputs))?.sum(0)))
        .map_err(backend_error)
}

fn float_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    rows: usize,
    shape: &[usize],
) -> CandleResult<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let y = if rows * inputs * outputs == 0 {
        Tensor::zeros((rows, outputs), x.dtype(), x.device())?
    } else {
        x.reshape((rows, inputs))?.matmul(&weight.t()?)?
    };
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(shape)
}

/// `y`, the value of the product, with the gradients of the float product of `x` and `weight`.
fn linear_with_gradients(
    x: &Tensor,
    weight: &Tensor,
    rows: usize,
    shape: &[usize],
    y: Vec<f32>,
) -> CandleResult<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if rows * inputs * outputs == 0 {
        return Tensor::from_vec(y, shape, x.device());
    }
    let (x_value, w_value) = (x.detach(), weight.detach());
    let (needs_x, needs_w) = (x.track_op(), weight.track_op());
    precomputed_binary("linear", [x, weight], shape, y, move |dy| {
        let dy = dy.reshape((rows, outputs))?;
        let dx = || dy.matmul(&w_value)?.reshape(x_value.shape());
        let dw = || dy.t()?.matmul(&x_value.reshape((rows, inputs))?);
        let of = |needed: bool| needed.then_some(());
        Ok([of(needs_x).map(|()| dx()).transpose()?, of(needs_w).map(|()| dw()).transpose()?])
    })
}
