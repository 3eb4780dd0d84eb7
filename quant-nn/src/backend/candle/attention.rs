//! Causal attention, with gradients.

use candle_core::{Result as CandleResult, Tensor, Var};

use super::op::precomputed_unary;
use super::tensor::{on_cpu_in_f32, values};
use super::{backend_error, functions};
use crate::backend::ndarray::language;
use crate::backend::shape::{self, Heads};
use crate::error::ForwardError;

pub(super) fn causal_attention(
    qkv: [&Tensor; 3],
    heads: usize,
    lengths: &[usize],
) -> Result<Tensor, ForwardError> {
    let heads = shape::causal_attention(qkv.map(Tensor::dims), heads, lengths)?;
    if !qkv.into_iter().all(on_cpu_in_f32) {
        return graph(qkv, heads, lengths).map_err(backend_error);
    }
    let mut inputs = [const { Vec::new() }; 3];
    for (input, tensor) in inputs.iter_mut().zip(qkv) {
        *input = values(tensor).map_err(backend_error)?;
    }
    let mut y = vec![0.0; inputs[0].len()];
    language::causal_attention_within(
        inputs.each_ref().map(Vec::as_slice),
        heads,
        lengths,
        &mut y,
    )?;
    with_gradients(qkv, heads, lengths, y).map_err(backend_error)
}

/// `y`, the value of the attention, with gradients.
///
/// The probabilities of a long sequence take more memory than all else, so they are not kept until the
/// backward pass, which computes them again.
fn with_gradients(
    qkv: [&Tensor; 3],
    heads: Heads,
    lengths: &[usize],
    y: Vec<f32>,
) -> CandleResult<Tensor> {
    let shape = qkv[0].shape();
    if y.is_empty() || !qkv.iter().any(|tensor| tensor.track_op()) {
        return Tensor::from_vec(y, shape, qkv[0].device());
    }
    let joined = Tensor::cat(&qkv, 1)?;
    let (value, lengths) = (joined.detach(), lengths.to_vec());
    precomputed_unary("causal-attention", &joined, shape, y, move |dy| {
        let joined = Var::from_tensor(&value)?;
        let y = graph(heads.split(&joined)?.each_ref(), heads, &lengths)?;
        let gradients = y.mul(dy)?.sum_all()?.backward()?;
        gradients.get(&joined).map_or_else(|| joined.zeros_like(), |gradient| Ok(gradient.clone()))
    })
}

impl Heads {
    /// Queries, keys and values out of `[tokens, columns]`, which has the columns of all three.
    fn split(self, joined: &Tensor) -> CandleResult<[Tensor; 3]> {
        let (queries, keys) = (self.queries * self.dim, self.keys * self.dim);
        Ok([
            joined.narrow(1, 0, queries)?,
            joined.narrow(1, queries, keys)?,
            joined.narrow(1, queries + keys, keys)?,
        ])
    }
}

/// Attention by candle's operations.
fn graph(qkv: [&Tensor; 3], heads: Heads, lengths: &[usize]) -> CandleResult<Tensor> {
    let mut start = 0;
    let mut outputs = Vec::with_capacity(lengths.len());
    for &length in lengths.iter().filter(|length| **length > 0) {
        let [q, k, v] = qkv.map(|tensor| tensor.narrow(0, start, length));
        outputs.push(sequence([q?, k?, v?], heads, length)?);
        start += length;
    }
    if outputs.is_empty() {
        return qkv[0].zeros_like();
    }
    Tensor::cat(&outputs, 0)
}

/// One sequence of `n` tokens.
fn sequence([q, k, v]: [Tensor; 3], heads: Heads, n: usize) -> CandleResult<Tensor> {
    let Heads { queries, keys, dim } = heads;
    let group = queries / keys;
    let q = q.reshape((n, keys, group, dim))?.permute((1, 2, 0, 3))?;
    let q = q.reshape((keys, group * n, dim))?;
    let k = k.reshape((n, keys, dim))?.permute((1, 2, 0))?.contiguous()?;
    let v = v.reshape((n, keys, dim))?.transpose(0, 1)?.contiguous()?;
    let scores = (q.matmul(&k)? / (dim as f64).sqrt())?.reshape((keys, group, n, n))?;
    let scores = scores.broadcast_add(&later_tokens(n, &scores)?)?;
    let probabilities = functions::softmax(&scores)?.reshape((keys, group * n, n))?;
    let y = probabilities.matmul(&v)?.reshape((keys, group, n, dim))?;
    y.permute((2, 0, 1, 3))?.reshape((n, queries * dim))
}

/// What is added to the scores of `n` tokens, `[token, other token]`: `-∞` for those that are later.
fn later_tokens(n: usize, like: &Tensor) -> CandleResult<Tensor> {
    let of = |token: usize, other: usize| if other > token { f32::NEG_INFINITY } else { 0.0 };
    let mask = (0..n).flat_map(|token| (0..n).map(move |other| of(token, other)));
    Tensor::from_vec(mask.collect(), (n, n), like.device())?.to_dtype(like.dtype())
}
