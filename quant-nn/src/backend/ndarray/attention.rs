//! Scaled dot-product attention.

use ndarray::{Array, ArrayD, Dimension};
use rayon::prelude::*;
use rten_tensor::NdTensorView;

use super::functions::array;
use super::{float, language};
use crate::backend::shape::{self, shape_error};
use crate::error::ForwardError;
use quant::FloatTensor;

/// `softmax(q · kᵀ / √d) · v` for each head and each sequence, in floats. `q`, `k` and `v` are
/// `[tokens, heads · d]`; the sequences of the batch follow each other in their rows.
///
/// `lengths` are the numbers of tokens of the sequences. There is no padding, and a token attends
/// to its own sequence only: the result of a sequence does not depend on the rest of the batch.
///
/// # Errors
/// Shapes that differ, columns that `heads` does not divide, or lengths whose sum is not the number
/// of tokens.
pub fn attention(
    q: &ArrayD<f32>,
    k: &ArrayD<f32>,
    v: &ArrayD<f32>,
    heads: usize,
    lengths: &[usize],
) -> Result<ArrayD<f32>, ForwardError> {
    let refuse = |expected: String, found: &[usize]| Err(shape_error("attention", expected, found));
    let &[tokens, columns] = q.shape() else {
        return refuse("queries of shape [tokens, heads · d]".into(), q.shape());
    };
    for other in [k, v] {
        if other.shape() != q.shape() {
            return refuse(format!("keys and values of shape {:?}", q.shape()), other.shape());
        }
    }
    if heads == 0 || !columns.is_multiple_of(heads) {
        return refuse(format!("queries of shape [tokens, a multiple of {heads}]"), q.shape());
    }
    shape::check_lengths("attention", lengths, tokens)?;
    let (q, k, v) = (q.values(), k.values(), v.values());
    let shape = Heads { columns, width: columns / heads };
    let mut y = vec![0.0; tokens * columns];
    let mut rest = &mut y[..];
    let mut start = 0;
    let mut sequences = Vec::new();
    for &length in lengths {
        let (own, after) = rest.split_at_mut(length * columns);
        let range = start * columns..(start + length) * columns;
        sequences.push((length, [&q[range.clone()], &k[range.clone()], &v[range]], own));
        (rest, start) = (after, start + length);
    }
    sequences.into_par_iter().for_each(|(length, qkv, y)| shape.sequence(length, qkv, y));
    Ok(array(&[tokens, columns], y))
}

/// [`Backend::causal_attention`](crate::Backend::causal_attention), for arrays of any rank type.
///
/// ```
/// use ndarray::arr2;
/// // Two sequences: one of two tokens, one of a single token. One head of two dimensions.
/// let q = arr2(&[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]);
/// let v = arr2(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
/// let y = quant_nn::causal_attention([&q, &q, &v], 1, &[2, 1])?;
/// assert_eq!(y, arr2(&[[1.0, 2.0], [2.0, 3.0], [5.0, 6.0]]));
/// # Ok::<(), quant_nn::ForwardError>(())
/// ```
///
/// # Errors
/// As for [`Backend::causal_attention`](crate::Backend::causal_attention).
pub fn causal_attention<D: Dimension>(
    qkv: [&Array<f32, D>; 3],
    heads: usize,
    lengths: &[usize],
) -> Result<Array<f32, D>, ForwardError> {
    let heads = shape::causal_attention(qkv.map(Array::shape), heads, lengths)?;
    let values = qkv.map(FloatTensor::values);
    let mut y = vec![0.0; qkv[0].len()];
    let values = values.each_ref().map(|values| &**values);
    language::causal_attention_within(values, heads, lengths, &mut y)?;
    Ok(array(qkv[0].shape(), y))
}

#[derive(Clone, Copy)]
struct Heads {
    columns: usize,
    /// Columns of one head.
    width: usize,
}

impl Heads {
    /// All heads of one sequence.
    fn sequence(self, length: usize, qkv: [&[f32]; 3], y: &mut [f32]) {
        if length == 0 || self.width == 0 {
            return;
        }
        let outputs: Vec<_> = (0..self.columns / self.width)
            .into_par_iter()
            .map(|head| self.head(head, length, qkv))
            .collect();
        for (head, output) in outputs.iter().enumerate() {
            for (y, output) in y.chunks_mut(self.columns).zip(output.chunks(self.width)) {
                y[head * self.width..][..self.width].copy_from_slice(output);
            }
        }
    }

    fn head(self, head: usize, length: usize, [q, k, v]: [&[f32]; 3]) -> Vec<f32> {
        let [q, k, v] = [q, k, v].map(|values| self.view(head, length, values));
        let mut scores = vec![0.0; length * length];
        let scale = 1.0 / (self.width as f32).sqrt();
        float::product(q, k.transposed(), scale, &mut scores);
        scores.chunks_mut(length).for_each(float::softmax_row);
        let mut y = vec![0.0; length * self.width];
        float::product(NdTensorView::from_data([length, length], &*scores), v, 1.0, &mut y);
        y
    }

    /// The columns of one head.
    fn view(self, head: usize, length: usize, values: &[f32]) -> NdTensorView<'_, f32, 2> {
        let strides = [self.columns, 1];
        NdTensorView::from_slice_with_strides(
            [length, self.width],
            &values[head * self.width..],
            strides,
        )
        .expect("the columns of a head lie within the rows")
    }
}
