//! Rotary embeddings, with gradients.

use candle_core::{D, Error, Result as CandleResult, Tensor};
use quant_kernels::{FloatError, Kernel, Rope, RopeAngles};

use super::backend_error;
use super::op::precomputed_unary;
use super::tensor::{on_cpu_in_f32, values};
use crate::backend::ndarray::language;
use crate::error::ForwardError;

pub(super) fn rope(
    x: &Tensor,
    heads: usize,
    rope: &Rope,
    angles: &RopeAngles,
) -> Result<Tensor, ForwardError> {
    if !on_cpu_in_f32(x) {
        check(x, heads, rope, angles)
            .map_err(|source| ForwardError::Function { layer: "rope".into(), source })?;
        return graph(x, heads, rope, angles).map_err(backend_error);
    }
    let mut y = values(x).map_err(backend_error)?;
    language::rope(&mut y, heads, rope, angles)?;
    let (rope, opposite) = (rope.clone(), angles.opposite());
    precomputed_unary("rope", x, x.shape(), y, move |dy| {
        let mut dx = values(dy)?;
        Kernel::current().rope(&mut dx, heads, &rope, &opposite).map_err(Error::wrap)?;
        Tensor::from_vec(dx, dy.shape(), dy.device())
    })
    .map_err(backend_error)
}

/// What the kernel checks, where it does not run.
fn check(x: &Tensor, heads: usize, rope: &Rope, angles: &RopeAngles) -> Result<(), FloatError> {
    let (pairs, tokens) = (rope.frequencies().len(), angles.len());
    if tokens > 0 && angles.of(0).0.len() != pairs {
        return Err(FloatError::OtherAngles { expected: pairs, found: angles.of(0).0.len() });
    }
    let expected = tokens.saturating_mul(heads).saturating_mul(rope.head_dim());
    match x.elem_count() {
        found if found != expected => Err(FloatError::Length { of: "input", expected, found }),
        _ => Ok(()),
    }
}

/// Each dimension times a cosine, plus the other dimension of its pair times a sine.
fn graph(x: &Tensor, heads: usize, rope: &Rope, angles: &RopeAngles) -> CandleResult<Tensor> {
    let (tokens, dim) = (angles.len(), rope.head_dim());
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let mut others: Vec<u32> = (0..).take(dim).collect();
    // Dimensions of no pair stay: times 1, plus nothing.
    let (mut cosines, mut sines) = (vec![1.0f32; tokens * dim], vec![0.0f32; tokens * dim]);
    for pair in 0..rope.frequencies().len() {
        let [a, b] = rope.pair(pair);
        others.swap(a, b);
        for token in 0..tokens {
            let (cos, sin) = angles.of(token);
            let [a, b] = [a, b].map(|dimension| token * dim + dimension);
            (cosines[a], cosines[b]) = (cos[pair], cos[pair]);
            (sines[a], sines[b]) = (-sin[pair], sin[pair]);
        }
    }
    let of_tokens = |factors: Vec<f32>| {
        Tensor::from_vec(factors, (tokens, 1, dim), x.device())?.to_dtype(x.dtype())
    };
    let heads = x.reshape((tokens, heads, dim))?;
    let others = heads.index_select(&Tensor::new(others, x.device())?, D::Minus1)?;
    let turned = others.broadcast_mul(&of_tokens(sines)?)?;
    (heads.broadcast_mul(&of_tokens(cosines)?)? + turned)?.reshape(x.shape())
}
