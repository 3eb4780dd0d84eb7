//! Floats to blocks of ggml, from file to file.

use std::collections::BTreeMap;
use std::path::Path;

use quant::__private::{common_grain, non_finite_values};
use quant::ParamId;
use quant::RecordError;
use quant::Tensor;
use quant::quantize::Planner;
use quant::record::RecordFormatError;
use quant::tensor::QuantizedTensor;

use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::CheckpointError;
use crate::ggml::{FILE_TYPE, GgufEncoding, blocks_to_tensor, encode};
use crate::gguf::GgufError;
use crate::options::Options;
use crate::output::{Made, Output, Target, write};
use crate::piece::Piece;
use crate::rewrite::{check_any_quantized, copy, decide, quantizable, read};

/// What [`quantize_to_blocks`] made of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoded {
    /// The number of tensors that were quantized.
    pub quantized: usize,
    /// The number of all tensors.
    pub tensors: usize,
    /// The bytes of all tensors in the checkpoint.
    pub bytes_before: u64,
    /// The bytes of all tensors in the output.
    pub bytes_after: u64,
    /// Tensors that the planner quantizes, but whose rows do not consist of whole blocks. They stay
    /// float.
    pub ragged: Vec<ParamId>,
    /// Tensors that stay float and have values that are NaN or infinite, each with the number of such
    /// values.
    pub non_finite: Vec<(ParamId, u64)>,
}

/// Quantizes a checkpoint to blocks of ggml in another file, in the format of its extension. Where
/// that is not GGUF, it has codes and scales of the [scheme](crate::GgufType::scheme) of the blocks.
///
/// `planner` decides which tensors are quantized; the schemes that it chooses are ignored. Codes and
/// scales are those of ggml's reference functions, bit for bit, without an importance matrix. They
/// may differ from those of a scheme of this project, which rounds a scale before it divides by it.
///
/// # Errors
/// A tensor cannot be read, has a value that blocks cannot hold, the planner quantizes nothing,
/// no row consists of whole blocks, or the output cannot be written. The output keeps its old content then.
pub fn quantize_to_blocks(
    from: &Checkpoint,
    encoding: GgufEncoding,
    planner: &dyn Planner,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<Encoded, CheckpointError> {
    let decided = decide(quantizable(from, options)?, planner, options)?;
    check_any_quantized(from, &decided)?;
    let (mut summary, mut targets) = (Encoded::default(), Vec::new());
    let mut is_encoded = Vec::new();
    for (index, entry) in from.entries().iter().enumerate() {
        let is_chosen = decided.get(index).is_some_and(|one| one.scheme().is_some());
        let fits = encoding.ty().divides_row(&entry.shape);
        if is_chosen && !fits {
            summary.ragged.push(entry.id.clone());
        }
        is_encoded.push(is_chosen && fits);
        targets.push(if is_chosen && fits {
            let row = entry.shape.last().copied().filter(|&row| row > 0);
            let grain = common_grain(from.grain(index), row);
            Target::made(from, index, entry.stored_as(encoding.scheme()), grain)
        } else {
            Target::copy(from, index)
        });
    }
    summary.tensors = targets.len();
    summary.quantized = is_encoded.iter().filter(|&&is_encoded| is_encoded).count();
    if summary.quantized == 0 {
        let id = summary.ragged.swap_remove(0);
        return Err(CheckpointError::NoBlocks { id, encoding });
    }
    summary.bytes_before = from.entries().iter().map(|entry| entry.bytes).sum();
    summary.bytes_after = targets.iter().map(Target::byte_count).sum();
    let each = |piece: &Piece| {
        if is_encoded[piece.item] {
            let part = read(from, piece, Vec::new(), options)?;
            let made = quantized(&from.entries()[piece.item], encoding, piece, &part)?;
            return Ok((0, Made::Tensor(made.into())));
        }
        let made = copy(from, piece)?;
        let non_finite = match &made {
            Made::Tensor(part) => non_finite_values(part.into()),
            Made::Bytes(_) => 0,
        };
        Ok((non_finite, made))
    };
    let output = Output::of(from, targets).update(FILE_TYPE, encoding.file_type());
    let mut counts = BTreeMap::new();
    write(from, output, to.as_ref(), options, each, |piece, count| {
        if count > 0 {
            *counts.entry(piece.item).or_default() += count;
        }
    })?;
    let named = |(index, count): (usize, u64)| (from.entries()[index].id.clone(), count);
    summary.non_finite = counts.into_iter().map(named).collect();
    Ok(summary)
}

/// The codes and scales of the blocks of a piece of a tensor.
fn quantized(
    entry: &Entry,
    encoding: GgufEncoding,
    piece: &Piece,
    part: &Tensor,
) -> Result<QuantizedTensor, RecordError> {
    let (ty, values) = (encoding.ty(), part.values());
    let mut bytes = Vec::with_capacity(values.len() / ty.block_len() * ty.block_bytes());
    encode(encoding, &values, &mut bytes).map_err(|index| {
        let (id, value) = (entry.id.clone(), values[index]);
        GgufError::Value { id, index: piece.range.start + index, value, ty }
    })?;
    let shape = match entry.shape.last() {
        Some(&row) if values.len() < entry.element_count() => &[values.len() / row, row],
        _ => &*entry.shape,
    };
    blocks_to_tensor(ty, encoding.scheme(), shape, &bytes)
        .map_err(|source| RecordFormatError::Tensor { id: entry.id.clone(), source }.into())
}
