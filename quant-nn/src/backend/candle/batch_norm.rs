//! Batch norm: by the running statistics, and in train mode by those of the batch.

use candle_core::{Result as CandleResult, Tensor, Var};
use quant::Param;

use super::backend_error;
use super::op::on_graph;
use super::tensor::{Storage, on_cpu_in_f32, values};
use crate::backend::ndarray::float;
use crate::backend::shape;
use crate::error::ForwardError;
use crate::ops::BatchNormParams;
use crate::train_state::updates_statistics;

/// The momentum of the running statistics: `μ += 0.1 · (μ of the batch - μ)`.
const MOMENTUM: f64 = 0.1;

pub(super) fn batch_norm<T: Storage>(
    x: &Tensor,
    norm: BatchNormParams<'_, T>,
) -> Result<Tensor, ForwardError> {
    let shapes = norm.params().map(Param::shape);
    let shapes = shapes.each_ref().map(|shape| &**shape);
    let [_, channels, height, width] = shape::batch_norm(x.dims(), shapes)?;
    let params = norm.params().map(Param::value);
    let [gamma, beta, mean, variance] = params.each_ref().map(|param| param.tensor());
    if updates_statistics() {
        let y = by_batch_statistics(x, [gamma, beta, mean, variance], norm.epsilon);
        return y.map_err(backend_error);
    }
    let per_channel = |t: &Tensor| t.reshape((1, channels, 1, 1));
    let graph = || {
        // Statistics have no gradient.
        let (mean, variance) = (&mean.detach(), variance.detach());
        let factor = gamma.div(&(variance + f64::from(norm.epsilon))?.sqrt()?)?;
        x.broadcast_sub(&per_channel(mean)?)?
            .broadcast_mul(&per_channel(&factor)?)?
            .broadcast_add(&per_channel(beta)?)
    };
    if !on_cpu_in_f32(x) {
        return graph().map_err(backend_error);
    }
    let values = || -> CandleResult<Tensor> {
        let [gamma, beta, mean, variance] = [gamma, beta, mean, variance].map(values);
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        let params = [&*gamma, &*beta, &*mean, &*variance];
        let mut y = values(x)?;
        float::batch_norm(&mut y, height * width, params, norm.epsilon);
        Tensor::from_vec(y, x.shape(), x.device())
    };
    on_graph(values, graph, [x, gamma, beta]).map_err(backend_error)
}

/// Normalizes by the statistics of the batch, and moves the running statistics towards them.
fn by_batch_statistics(
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
        // A constant stays as it is.
        if running.is_variable() {
            Var::from_tensor(running)?.set(&moved)?;
        }
    }
    let factor = gamma.div(&(batch_variance + f64::from(epsilon))?.sqrt()?)?;
    debug_assert_eq!(factor.dims(), [channels]);
    centred.broadcast_mul(&per_channel(&factor)?)?.broadcast_add(&per_channel(beta)?)
}
