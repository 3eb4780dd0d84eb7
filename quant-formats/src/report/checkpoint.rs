//! Reports on the tensors of a checkpoint.

use quant::__private::quantize_one;
use quant::RecordError;
use quant::Tensor;
use quant::quantize::Planner;
use quant::record::RecordFormatError;
use quant::tensor::{QuantizedTensor, TensorError};

use super::tensor::TensorReport;
use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::CheckpointError;
use crate::options::Options;
use crate::pipeline::{self, needed};
use crate::rewrite::{decide, quantizable, read, run, stays};

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
    let each = |index: usize| {
        if stays(&entries[index], &decided[index], options) {
            return Ok(one(&entries[index], &from.read(index)?, None)?);
        }
        let tensor = read(from, index, Vec::new(), options)?;
        let (planned, quantized) = quantize_one(decided[index].clone(), &tensor)?;
        let report = one(&from.entries()[index], &tensor, quantized.as_ref())?;
        Ok(report.note(planned.reason.to_string()))
    };
    let mut reports = Vec::new();
    run(entries, &decided, options, each, |report| reports.push(report))?;
    Ok(reports)
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
    let each = |index: usize| {
        let (entry, tensor) = (&from.entries()[index], from.read(index)?);
        match quantized.position(entry.id.as_str()) {
            None => Ok(one(entry, &tensor, None)?.note("not in the quantized file")),
            Some(other) => Ok(one(entry, &tensor, quantized.read(other)?.quantized())?),
        }
    };
    let entries: Vec<&Entry> = from.entries().iter().collect();
    let needs: Vec<u64> = entries.iter().map(|entry| needed(entry, entry.float_bytes())).collect();
    let mut reports = Vec::new();
    pipeline::run(&entries, &needs, 0, options, each, |_, report| {
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
