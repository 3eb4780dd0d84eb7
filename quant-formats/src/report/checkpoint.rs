//! Reports on the tensors of a checkpoint.

use quant::__private::{Decided, quantize_one};
use quant::RecordError;
use quant::Tensor;
use quant::quantize::Planner;
use quant::record::RecordFormatError;
use quant::tensor::{QuantizedTensor, TensorError};

use super::tensor::TensorReport;
use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::CheckpointError;
use crate::memory;
use crate::options::Options;
use crate::piece::{Item, Piece};
use crate::pipeline;
use crate::rewrite::{decide, decided_entry, quantizable, read, stays};

/// Reports what quantization would do to each tensor of a checkpoint, without writing anything.
///
/// # Errors
/// A tensor cannot be read, or cannot be quantized as the planner decides.
pub fn tensors(
    from: &Checkpoint,
    planner: &dyn Planner,
    options: Options<'_>,
) -> Result<Vec<TensorReport>, CheckpointError> {
    let entries = quantizable(from, options)?;
    let decided = decide(entries, planner, options)?;
    let each = |piece: &Piece| {
        let index = piece.item;
        if stays(&entries[index], &decided[index], options) {
            return Ok(one(&entries[index], &from.read(index)?, None)?);
        }
        let tensor = read(from, piece, Vec::new(), options)?;
        let (planned, quantized) = quantize_one(decided[index].clone(), &tensor)?;
        let report = one(&from.entries()[index], &tensor, quantized.as_ref())?;
        Ok(report.note(match planned.warning {
            Some(warning) => format!("{}; {warning}", planned.reason),
            None => planned.reason.to_string(),
        }))
    };
    let item = |(entry, one): (&Entry, &Decided)| {
        let len = decided_entry(entry, one).byte_count();
        Item::tensor(entry, None, memory::of_result(entry, len))
    };
    let items: Vec<Item> = entries.iter().zip(&decided).map(item).collect();
    collect(&items, options, each)
}

/// Reports on each tensor of a checkpoint and the same tensor in `quantized`, a quantized copy.
///
/// A tensor that the copy lacks has a note.
///
/// # Errors
/// A tensor cannot be read, or has another shape in the copy.
pub fn tensors_against(
    from: &Checkpoint,
    quantized: &Checkpoint,
    options: Options<'_>,
) -> Result<Vec<TensorReport>, CheckpointError> {
    let each = |piece: &Piece| {
        let (entry, tensor) = (&from.entries()[piece.item], from.read(piece.item)?);
        match quantized.position(entry.id.as_str()) {
            None => Ok(one(entry, &tensor, None)?.note("not in the quantized file")),
            Some(other) => Ok(one(entry, &tensor, quantized.read(other)?.quantized())?),
        }
    };
    let item =
        |entry: &Entry| Item::tensor(entry, None, memory::of_result(entry, entry.float_bytes()));
    collect(&from.entries().iter().map(item).collect::<Vec<_>>(), options, each)
}

/// The reports that `each` makes of whole tensors.
fn collect(
    items: &[Item],
    options: Options<'_>,
    each: impl Fn(&Piece) -> Result<TensorReport, CheckpointError> + Sync,
) -> Result<Vec<TensorReport>, CheckpointError> {
    let mut reports = Vec::new();
    pipeline::run(items, 0, options, each, |_, report| {
        reports.push(report);
        Ok(())
    })?;
    Ok(reports)
}

/// The report on one tensor and its quantized version.
fn one(
    entry: &Entry,
    tensor: &Tensor,
    quantized: Option<&QuantizedTensor>,
) -> Result<TensorReport, RecordError> {
    if let Some(already) = tensor.quantized() {
        return Ok(TensorReport::of_quantized(entry.id.clone(), already));
    }
    let report = TensorReport::new(entry.id.clone(), &entry.shape, &tensor.values(), quantized);
    let error = |source: TensorError| RecordFormatError::Tensor { id: entry.id.clone(), source };
    Ok(report.map_err(error)?.bytes_before(entry.bytes))
}
