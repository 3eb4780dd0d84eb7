//! The functions of language models, on slices: shared among the threads of the pool, which changes no
//! result.

use std::cell::Cell;

use quant_kernels::scheme::KeyValueScheme;
use quant_kernels::{
    AttentionError, AttentionScratch, FloatError, Kernel, KeyValueCache, KeyValueShape, Rope,
    RopeAngles,
};
use rayon::prelude::*;

use super::integer;
use super::param::CpuParam;
use crate::backend::shape::{Heads, shape_error};
use crate::error::ForwardError;

/// Values of the chunk of one thread. Fewer are computed faster than handed over.
const CHUNK: usize = 1 << 14;

fn function_error(layer: &'static str) -> impl Fn(FloatError) -> ForwardError {
    move |source| ForwardError::Function { layer: layer.into(), source }
}

pub(crate) fn embedding(
    indices: &[u32],
    weight: &dyn CpuParam,
    columns: usize,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    match weight.quantized() {
        Some(tensor) => integer::embedding(indices, tensor, y)?,
        None => {
            let values = weight.values();
            for (&index, y) in indices.iter().zip(y.chunks_mut(columns.max(1))) {
                y.copy_from_slice(&values[index as usize * columns..][..columns]);
            }
        }
    }
    Ok(())
}

pub(crate) fn rms_norm(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let run = |x: &[f32], y: &mut [f32]| kernel.rms_norm(x, weight, epsilon, y);
    let rows = (CHUNK / weight.len().max(1)).max(1) * weight.len().max(1);
    let done = if x.len() <= rows {
        run(x, y)
    } else {
        x.par_chunks(rows).zip(y.par_chunks_mut(rows)).try_for_each(|(x, y)| run(x, y))
    };
    done.map_err(function_error("rms_norm"))
}

pub(crate) fn rope(
    x: &mut [f32],
    heads: usize,
    rope: &Rope,
    angles: &RopeAngles,
) -> Result<(), ForwardError> {
    Kernel::selected()?.rope(x, heads, rope, angles).map_err(function_error("rope"))
}

pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let run = |gate: &mut [f32], up: &[f32]| {
        kernel.silu(gate);
        gate.iter_mut().zip(up).for_each(|(gate, up)| *gate *= up);
    };
    if gate.len() <= CHUNK {
        run(gate, up);
    } else {
        gate.par_chunks_mut(CHUNK).zip(up.par_chunks(CHUNK)).for_each(|(gate, up)| run(gate, up));
    }
    Ok(())
}

/// See [`causal_attention_into`](crate::causal_attention_into).
pub(crate) fn causal_attention<'c>(
    [queries, keys, values]: [&[f32]; 3],
    rows: usize,
    heads: usize,
    caches: impl IntoIterator<Item = (usize, &'c mut KeyValueCache)>,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let [columns, key_columns, value_columns] =
        [queries, keys, values].map(|values| values.len() / rows.max(1));
    let mut start = 0;
    for (count, cache) in caches {
        let end = start + count;
        if end > rows {
            let expected = format!("at least {end} tokens, as the sequences have");
            return Err(shape_error("causal_attention", expected, &[rows, columns]));
        }
        let keys = &keys[start * key_columns..end * key_columns];
        let values = &values[start * value_columns..end * value_columns];
        cache.append(kernel, keys, values).map_err(attention_error)?;
        let part = start * columns..end * columns;
        let (queries, y) = (&queries[part.clone()], &mut y[part]);
        with_scratch(|scratch| kernel.attention(queries, heads, cache, y, scratch))
            .map_err(attention_error)?;
        start = end;
    }
    if start < rows {
        let expected = format!("{start} tokens, as the sequences have");
        return Err(shape_error("causal_attention", expected, &[rows, columns]));
    }
    Ok(())
}

fn attention_error(source: AttentionError) -> ForwardError {
    ForwardError::Attention { layer: "causal_attention".into(), source }
}

/// Causal attention of floats within whole sequences, whose rows follow each other.
pub(crate) fn causal_attention_within(
    qkv: [&[f32]; 3],
    Heads { queries, keys, dim }: Heads,
    lengths: &[usize],
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let capacity = lengths.iter().copied().max().unwrap_or(0);
    let shape = KeyValueShape { heads: keys, head_dim: dim, capacity };
    let mut cache = KeyValueCache::new(shape, KeyValueScheme::F32).map_err(attention_error)?;
    let mut start = 0;
    for &length in lengths {
        cache.clear();
        let rows = |columns: usize| start * columns..(start + length) * columns;
        let (of_queries, of_keys) = (rows(queries * dim), rows(keys * dim));
        let [q, k, v] = qkv;
        let own = [&q[of_queries.clone()], &k[of_keys.clone()], &v[of_keys]];
        causal_attention(own, length, queries, [(length, &mut cache)], &mut y[of_queries])?;
        start += length;
    }
    Ok(())
}

thread_local! {
    /// The buffers of the attention of a thread.
    static SCRATCH: Cell<Option<AttentionScratch>> = const { Cell::new(None) };
}

/// Calls `f` with the buffers of this thread, which are taken out while in use.
fn with_scratch<R>(f: impl FnOnce(&mut AttentionScratch) -> R) -> R {
    let threads = rayon::current_num_threads();
    let mut scratch = SCRATCH
        .take()
        .filter(|scratch| scratch.threads() == threads)
        .unwrap_or_else(|| AttentionScratch::with_threads(threads));
    let result = f(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}
