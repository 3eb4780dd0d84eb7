//! What quantization does to the tensors of a checkpoint, for a page.

use super::TensorReport;
use crate::rewrite::{decide, decided_entries, in_order};
use crate::{Checkpoint, CheckpointError, Entry, Options, record_entries};
use quant::__private::quantize_one;
use quant::quantize::Planner;
use quant::record::{RecordEntry, RecordError, RecordFormatError};
use quant::tensor::{QuantizedTensor, Tensor, TensorError};

/// Reports what quantizing a checkpoint would do to each tensor.
///
/// # Errors
/// See [`CheckpointError`].
pub fn tensors(
    from: &dyn Checkpoint,
    planner: &dyn Planner,
    options: Options<'_>,
) -> Result<Vec<TensorReport>, CheckpointError> {
    let decided = decide(from, planner)?;
    let each = |index: usize| {
        let tensor = from.read(index)?;
        let (planned, quantized) = quantize_one(decided[index].clone(), &tensor)?;
        let report = one(&from.entries()[index], &tensor, quantized.as_ref())?;
        Ok(report.note(planned.reason.to_string()))
    };
    gather(from, &decided_entries(&decided), options, each)
}

/// Reports what has become of each tensor of a checkpoint in `quantized`, which has been made of
/// it; tensors that are missing there have a note.
///
/// # Errors
/// Tensors of one name and different shapes; otherwise see [`CheckpointError`].
pub fn tensors_against(
    from: &dyn Checkpoint,
    quantized: &dyn Checkpoint,
    options: Options<'_>,
) -> Result<Vec<TensorReport>, CheckpointError> {
    let each = |index: usize| {
        let (entry, tensor) = (&from.entries()[index], from.read(index)?);
        match quantized.position(entry.id.as_str()) {
            None => Ok(one(entry, &tensor, None)?.note("not in the quantized file")),
            Some(other) => Ok(one(entry, &tensor, quantized.read(other)?.quantized())?),
        }
    };
    gather(from, &record_entries(from, |_| None), options, each)
}

fn gather(
    from: &dyn Checkpoint,
    entries: &[RecordEntry],
    options: Options<'_>,
    each: impl Fn(usize) -> Result<TensorReport, CheckpointError> + Sync,
) -> Result<Vec<TensorReport>, CheckpointError> {
    let mut reports = Vec::new();
    in_order(from, entries, options, each, |_, report| {
        reports.push(report);
        Ok(())
    })?;
    Ok(reports)
}

/// The report on one tensor, and on what it has become.
fn one(
    entry: &Entry,
    tensor: &Tensor,
    quantized: Option<&QuantizedTensor>,
) -> Result<TensorReport, RecordError> {
    let error = |source: TensorError| {
        RecordError::from(RecordFormatError::Tensor { id: entry.id.clone(), source })
    };
    if let Some(already) = tensor.quantized() {
        return Ok(TensorReport::of_quantized(entry.id.clone(), already));
    }
    let report = TensorReport::new(entry.id.clone(), &entry.shape, &tensor.values(), quantized);
    Ok(report.map_err(error)?.bytes_before(entry.bytes))
}
