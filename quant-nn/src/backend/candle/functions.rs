//! Embeddings, norms, pooling and softmax, with gradients.

use candle_core::{D, Result as CandleResult, Tensor};
use quant::Param;
use quant::activation::ActivationQuantizer;

use super::backend_error;
use super::op::{on_graph, precomputed_unary};
use super::tensor::{Storage, on_cpu_in_f32, values};
use super::weight::Weight;
use crate::backend::ndarray::pool::PoolGeometry;
use crate::backend::ndarray::{float, integer, language};
use crate::backend::shape::{self, LayerInput};
use crate::error::ForwardError;
use crate::ops::Pool;

pub(super) fn pool2d(x: &Tensor, pool: Pool) -> Result<Tensor, ForwardError> {
    let geometry = PoolGeometry::new(x.dims(), pool)?;
    if !on_cpu_in_f32(x) {
        let kernel_size: (usize, usize) = pool.kernel_size().into();
        let stride: (usize, usize) = pool.stride().into();
        return match pool {
            Pool::Max { .. } => x.max_pool2d_with_stride(kernel_size, stride),
            Pool::Average { .. } => x.avg_pool2d_with_stride(kernel_size, stride),
        }
        .map_err(backend_error);
    }
    let run = || {
        let y = geometry.forward(&values(x)?);
        let value = x.detach();
        precomputed_unary("pool2d", x, &geometry.output_dims(), y, move |dy| {
            let dx = geometry.backward(&values(&value)?, &values(dy)?);
            Tensor::from_vec(dx, value.shape(), value.device())
        })
    };
    run().map_err(backend_error)
}

pub(super) fn embedding<T: Storage>(
    indices: &[u32],
    weight: &Param<T>,
) -> Result<Tensor, ForwardError> {
    let columns = shape::embedding(indices, &weight.shape())?;
    let float = ActivationQuantizer::new();
    let layer = LayerInput { operation: "embedding", quantizer: &float };
    let select = |table: &Tensor| {
        if indices.is_empty() {
            return Tensor::zeros((0, columns), table.dtype(), table.device());
        }
        table.index_select(&Tensor::new(indices, table.device())?, 0)
    };
    match Weight::of(weight, layer)? {
        Weight::Float(table) | Weight::Fake(_, table) => select(&table).map_err(backend_error),
        Weight::Quantized(_, tensor) => {
            let mut y = vec![0.0; indices.len() * columns];
            integer::embedding(indices, tensor, &mut y)?;
            Tensor::from_vec(y, (indices.len(), columns), weight.device().device())
                .map_err(backend_error)
        }
    }
}

pub(super) fn permute_columns(x: &Tensor, order: &[u32]) -> Result<Tensor, ForwardError> {
    shape::check_permutation(x.dims(), order)?;
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let select = || x.contiguous()?.index_select(&Tensor::new(order, x.device())?, D::Minus1);
    select().map_err(backend_error)
}

pub(super) fn layer_norm<T: Storage>(
    x: &Tensor,
    weight: &Param<T>,
    bias: &Param<T>,
    epsilon: f32,
) -> Result<Tensor, ForwardError> {
    let (weight, bias) = (weight.value(), bias.value());
    let (weight, bias) = (weight.tensor(), bias.tensor());
    shape::check_layer_norm(x.dims(), weight.dims(), bias.dims())?;
    let graph = || {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)?;
        normal.broadcast_mul(weight)?.broadcast_add(bias)
    };
    if !on_cpu_in_f32(x) {
        return graph().map_err(backend_error);
    }
    let computed = || {
        let mut y = values(x)?;
        float::layer_norm(&mut y, &values(weight)?, &values(bias)?, epsilon);
        Tensor::from_vec(y, x.shape(), x.device())
    };
    on_graph(computed, graph, [x, weight, bias]).map_err(backend_error)
}

pub(super) fn rms_norm<T: Storage>(
    x: &Tensor,
    weight: &Param<T>,
    epsilon: f32,
) -> Result<Tensor, ForwardError> {
    let weight = weight.value();
    let weight = weight.tensor();
    shape::check_rms_norm(x.dims(), weight.dims())?;
    let graph = || {
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(mean + f64::from(epsilon))?.sqrt()?)?.broadcast_mul(weight)
    };
    if !on_cpu_in_f32(x) {
        return graph().map_err(backend_error);
    }
    let mut y = vec![0.0; x.elem_count()];
    let values_of = |tensor| values(tensor).map_err(backend_error);
    language::rms_norm(&values_of(x)?, &values_of(weight)?, epsilon, &mut y)?;
    let computed = || Tensor::from_vec(y, x.shape(), x.device());
    on_graph(computed, graph, [x, weight]).map_err(backend_error)
}

pub(super) fn softmax(x: &Tensor) -> CandleResult<Tensor> {
    if !on_cpu_in_f32(x) || x.rank() == 0 {
        let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
        return exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?);
    }
    let mut y = values(x)?;
    float::softmax(&mut y, x.dims().last().copied().unwrap_or(1).max(1));
    let value = Tensor::from_slice(&y, x.shape(), x.device())?;
    precomputed_unary("softmax", x, x.shape(), y, move |dy| {
        let product = (dy * &value)?;
        &product - value.broadcast_mul(&product.sum_keepdim(D::Minus1)?)?
    })
}
