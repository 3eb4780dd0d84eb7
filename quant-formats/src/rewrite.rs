//! From one checkpoint to a plan, or to another checkpoint.

use std::path::Path;

use quant::__private::{Decided, decide_all, plan_one, quantize_one};
use quant::Tensor;
use quant::quantize::mixed::{MixedChoice, MixedPrecision};
use quant::quantize::{Candidate, PlannedParam, Planner};
use quant::record::{Manifest, RecordEntry};
use quant::{Plan, QuantizeError};

use crate::checkpoint::Checkpoint;
use crate::create::create;
use crate::entry::Entry;
use crate::error::CheckpointError;
use crate::options::Options;
use crate::pipeline::{self, Allocations};

/// Plans the quantization of a checkpoint, without writing anything. Every tensor is read once.
///
/// A file has no attributes as a struct has: the rules of the planner, and the rank, decide.
///
/// # Errors
/// A tensor cannot be read, or cannot be quantized as the planner decides.
pub fn plan(
    from: &Checkpoint,
    planner: &dyn Planner,
    options: Options<'_>,
) -> Result<Plan, CheckpointError> {
    let decided = decide(from, planner)?;
    let mut planned = Vec::new();
    let allocations = Allocations::default();
    let each = |index: usize| {
        let tensor = from.read_into(index, allocations.take())?;
        let planned = plan_one(decided[index].clone(), (&tensor).into())?;
        allocations.give_back(tensor);
        Ok(with_file_bytes(planned, &from.entries()[index]))
    };
    pipeline::run(from, &decided_entries(&decided), 0, options, each, |_, param| {
        planned.push(param);
        Ok(())
    })?;
    Ok(Plan::of_params(planned))
}

/// Chooses a precision for each tensor within a budget of bytes. Every tensor is read once.
///
/// The choice is a planner for the same checkpoint.
///
/// # Errors
/// A tensor cannot be read, or no choice fits the budget.
pub fn choose(
    from: &Checkpoint,
    mixed: &MixedPrecision,
    options: Options<'_>,
) -> Result<MixedChoice, CheckpointError> {
    let decided = mixed.decide(candidates(from))?;
    let mut offers = Vec::new();
    let each = |index: usize| Ok(mixed.offers_to(&decided[index], (&from.read(index)?).into())?);
    pipeline::run(from, &decided_entries(&decided), 0, options, each, |_, offered| {
        offers.push(offered);
        Ok(())
    })?;
    let now = from.entries().iter().map(|entry| entry.bytes).sum();
    Ok(mixed.choose(decided, &offers, now)?)
}

/// Quantizes a checkpoint to another file, in the format of its extension.
///
/// The bytes are those of quantizing and saving the whole model in memory.
///
/// # Errors
/// A tensor cannot be read or quantized, the planner quantizes nothing, or the output cannot be
/// written. The output keeps its old content then.
pub fn quantize(
    from: &Checkpoint,
    planner: &dyn Planner,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<Plan, CheckpointError> {
    let decided = decide(from, planner)?;
    check_any_quantized(from, &decided)?;
    let entries = decided_entries(&decided);
    let mut planned: Vec<PlannedParam> = Vec::new();
    let allocations = Allocations::default();
    let each = |index: usize| {
        let tensor = from.read_into(index, allocations.take())?;
        let (planned, quantized) = quantize_one(decided[index].clone(), &tensor)?;
        let planned = with_file_bytes(planned, &from.entries()[index]);
        let Some(quantized) = quantized else { return Ok((planned, tensor)) };
        allocations.give_back(tensor);
        Ok((planned, quantized.into()))
    };
    write(from, entries, to.as_ref(), options, each, |param| planned.push(param))?;
    Ok(Plan::of_params(planned))
}

/// Copies a checkpoint to another file with every quantized tensor converted to float.
///
/// # Errors
/// A tensor cannot be read, or the output cannot be written. The output keeps its old content then.
pub fn dequantize(
    from: &Checkpoint,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let entries = from.entries().iter().map(|entry| entry.to_record(None)).collect();
    let each = |index: usize| Ok(((), from.read(index)?.dequantize()));
    write(from, entries, to.as_ref(), options, each, |()| {})
}

/// Copies a checkpoint to another file, in the format of its extension.
///
/// # Errors
/// As for [`dequantize`].
pub fn convert(
    from: &Checkpoint,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let entries = from.entries().iter().map(|entry| entry.to_record(entry.scheme())).collect();
    write(from, entries, to.as_ref(), options, |index| Ok(((), from.read(index)?)), |()| {})
}

pub(crate) fn decide(
    from: &Checkpoint,
    planner: &dyn Planner,
) -> Result<Vec<Decided>, QuantizeError> {
    decide_all(planner, candidates(from))
}

fn check_any_quantized(from: &Checkpoint, decided: &[Decided]) -> Result<(), CheckpointError> {
    if decided.iter().any(|one| one.scheme().is_some()) {
        return Ok(());
    }
    let entries = from.entries();
    let all_quantized = !entries.is_empty() && entries.iter().all(|it| it.scheme().is_some());
    Err(CheckpointError::NothingToQuantize { tensors: entries.len(), all_quantized })
}

/// The plan of a tensor with its bytes in the file: half precision takes half of single precision.
fn with_file_bytes(mut planned: PlannedParam, entry: &Entry) -> PlannedParam {
    planned.bytes_before = entry.bytes;
    planned
}

fn candidates(from: &Checkpoint) -> Vec<Candidate> {
    let candidate =
        |entry: &Entry| Candidate::new(entry.id.clone(), entry.shape.clone(), entry.scheme());
    from.entries().iter().map(candidate).collect()
}

/// The tensors after quantization.
pub(crate) fn decided_entries(decided: &[Decided]) -> Vec<RecordEntry> {
    let entry = |one: &Decided| {
        let scheme = one.info.scheme.or(one.scheme());
        RecordEntry::new(one.info.id.clone(), one.info.shape.clone(), scheme)
    };
    decided.iter().map(entry).collect()
}

/// Writes the tensor that `each` makes at each position, and passes `done` the rest of its result.
fn write<R: Send>(
    from: &Checkpoint,
    entries: Vec<RecordEntry>,
    to: &Path,
    options: Options<'_>,
    each: impl Fn(usize) -> Result<(R, Tensor), CheckpointError> + Sync,
    mut done: impl FnMut(R),
) -> Result<(), CheckpointError> {
    let held = from.state_entries().iter().map(|state| state.bytes).sum();
    pipeline::check(from, &entries, held, options)?;
    let manifest = Manifest::new(entries.clone())
        .with_metadata(from.metadata().clone())
        .with_states(from.states()?)
        .with_max_shard_size(options.max_shard_size);
    let mut writer = create(to, manifest)?;
    pipeline::run(from, &entries, held, options, each, |index, (result, tensor)| {
        done(result);
        Ok(writer.write(entries[index].id.as_str(), &tensor)?)
    })?;
    Ok(writer.finish()?)
}
