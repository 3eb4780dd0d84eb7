//! From one checkpoint to a plan, or to another checkpoint.

use std::path::Path;

use quant::__private::{Decided, decide_all, plan_one, quantize_one};
use quant::quantize::mixed::{MixedChoice, MixedPrecision};
use quant::quantize::{Candidate, PlannedParam, Planner};
use quant::record::RecordEntry;
use quant::tensor::FloatType;
use quant::{Plan, QuantizeError, RecordError, Tensor};

use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, Stored};
use crate::error::CheckpointError;
use crate::ggml::{ALL_F32, FILE_TYPE};
use crate::method::PreQuantized;
use crate::options::Options;
use crate::output::{Made, Output, Target, write};
use crate::pipeline::{self, Allocations, needed};

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
    let entries = quantizable(from, options)?;
    let decided = decide(entries, planner, options)?;
    let mut planned = Vec::new();
    let allocations = Allocations::default();
    let each = |index: usize| {
        if stays(&entries[index], &decided[index], options) {
            return Ok(None);
        }
        let tensor = read(from, index, allocations.take(), options)?;
        let planned = plan_one(decided[index].clone(), (&tensor).into())?;
        allocations.give_back(tensor);
        Ok(Some(with_file_bytes(planned, &entries[index])))
    };
    run(entries, &decided, options, each, |param| planned.extend(param))?;
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
    let entries = quantizable(from, options)?;
    let decided = mixed.decide(candidates(entries, options))?;
    let mut offers = Vec::new();
    let each = |index: usize| {
        let tensor = read(from, index, Vec::new(), options)?;
        Ok(mixed.offers_to(&decided[index], (&tensor).into())?)
    };
    run(entries, &decided, options, each, |offered| offers.push(offered))?;
    let now = entries.iter().map(|entry| entry.bytes).sum();
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
    let decided = decide(quantizable(from, options)?, planner, options)?;
    check_any_quantized(from, &decided)?;
    let mut targets = decided_targets(from.entries(), &decided);
    targets.extend(from.entries()[decided.len()..].iter().map(stored));
    let mut planned: Vec<PlannedParam> = Vec::new();
    let allocations = Allocations::default();
    let each = |index: usize| {
        let entry = &from.entries()[index];
        let Some(decided) = decided.get(index).filter(|it| !stays(entry, it, options)) else {
            return Ok((None, copy(from, index)?));
        };
        let tensor = read(from, index, allocations.take(), options)?;
        let (planned, quantized) = quantize_one(decided.clone(), &tensor)?;
        let planned = Some(with_file_bytes(planned, entry));
        let Some(quantized) = quantized else { return Ok((planned, Made::Tensor(tensor))) };
        allocations.give_back(tensor);
        Ok((planned, Made::Tensor(quantized.into())))
    };
    let output = Output::of(from, targets);
    write(from, output, to.as_ref(), options, each, |param| planned.extend(param))?;
    Ok(Plan::of_params(planned))
}

/// Copies a checkpoint to another file with every quantized tensor converted to float.
///
/// # Errors
/// A tensor cannot be read, or the output cannot be written. The output keeps its old content then.
/// [`CheckpointError::Refused`] if another program has quantized a tensor, and its values cannot be
/// computed.
pub fn dequantize(
    from: &Checkpoint,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    check_readable(from)?;
    let float = |entry: &Entry| match entry.scheme() {
        Some(_) => entry.stored_as(FloatType::F32),
        None => entry.to_record(),
    };
    let floats = from.entries().iter().map(|entry| Target::Tensor(float(entry)));
    let each = |index: usize| Ok(((), Made::Tensor(from.read(index)?.dequantize())));
    let output = Output::of(from, floats.collect()).update(FILE_TYPE, ALL_F32);
    write(from, output, to.as_ref(), options, each, |()| {})
}

/// Copies a checkpoint to another file, in the format of its extension.
///
/// A tensor that another program has quantized is written as floats, or as it is if its values
/// cannot be computed.
///
/// # Errors
/// A tensor cannot be read, or the output cannot be written. The output keeps its old content then.
pub fn convert(
    from: &Checkpoint,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let targets = from.entries().iter().map(stored).collect();
    let each = |index| Ok(((), copy(from, index)?));
    write(from, Output::of(from, targets), to.as_ref(), options, each, |()| {})
}

/// A copy of a tensor.
pub(crate) fn stored(entry: &Entry) -> Target {
    match entry.stored {
        Stored::Blocks(ty) => Target::blocks(entry, ty),
        _ => Target::Tensor(entry.to_record()),
    }
}

/// Makes what [`stored`] declares.
pub(crate) fn copy(from: &Checkpoint, index: usize) -> Result<Made, CheckpointError> {
    Ok(match from.entries()[index].stored {
        Stored::Blocks(_) => Made::Blocks(from.read_blocks(index)?),
        _ => Made::Tensor(from.read(index)?),
    })
}

/// The tensors that a planner is asked about, which are the first ones of the checkpoint. Those in
/// blocks come after them, unless the options allow to quantize them again.
///
/// What another program has quantized is an error, with the same exception.
pub(crate) fn quantizable<'a>(
    from: &'a Checkpoint,
    options: Options<'_>,
) -> Result<&'a [Entry], CheckpointError> {
    let entries = from.entries();
    match from.prequantized() {
        Some(tensors) if !options.requantize || tensors.refused().is_some() => {
            Err(CheckpointError::PreQuantized { tensors: tensors.clone() })
        }
        _ if options.requantize => Ok(entries),
        _ => Ok(&entries[..entries.len() - from.blocks_len()]),
    }
}

/// A tensor that another program has quantized has values, or there is no float checkpoint.
pub(crate) fn check_readable(from: &Checkpoint) -> Result<(), CheckpointError> {
    match from.prequantized().and_then(PreQuantized::refused) {
        None => Ok(()),
        Some((tensor, refusal)) => Err(CheckpointError::Refused {
            id: tensor.id.clone(),
            encoding: tensor.encoding,
            refusal: refusal.clone(),
        }),
    }
}

pub(crate) fn decide(
    from: &[Entry],
    planner: &dyn Planner,
    options: Options<'_>,
) -> Result<Vec<Decided>, QuantizeError> {
    decide_all(planner, candidates(from, options))
}

/// Whether a tensor that may be quantized again stays as it is, because the planner keeps it.
pub(crate) fn stays(entry: &Entry, decided: &Decided, options: Options<'_>) -> bool {
    options.requantize && entry.is_quantized() && decided.scheme().is_none()
}

/// Reads a tensor that is to be quantized: one that is quantized already as floats.
pub(crate) fn read(
    from: &Checkpoint,
    index: usize,
    allocation: Vec<f32>,
    options: Options<'_>,
) -> Result<Tensor, RecordError> {
    let tensor = from.read_into(index, allocation)?;
    Ok(if options.requantize { tensor.dequantize() } else { tensor })
}

/// Calls `each` for every tensor, and `sink` with the results in order, without writing anything.
pub(crate) fn run<R: Send>(
    from: &[Entry],
    decided: &[Decided],
    options: Options<'_>,
    each: impl Fn(usize) -> Result<R, CheckpointError> + Sync,
    mut sink: impl FnMut(R),
) -> Result<(), CheckpointError> {
    let decided = from.iter().zip(decided);
    let targets = decided.map(|(entry, decided)| decided_entry(entry, decided).byte_count());
    let needs: Vec<u64> = from.iter().zip(targets).map(|(from, len)| needed(from, len)).collect();
    let from: Vec<&Entry> = from.iter().collect();
    pipeline::run(&from, &needs, 0, options, each, |_, result| {
        sink(result);
        Ok(())
    })
}

pub(crate) fn check_any_quantized(
    from: &Checkpoint,
    decided: &[Decided],
) -> Result<(), CheckpointError> {
    if decided.iter().any(|one| one.scheme().is_some()) {
        return Ok(());
    }
    let entries = from.entries();
    let quantized = entries.iter().filter(|entry| entry.is_quantized()).count();
    Err(CheckpointError::NothingToQuantize { tensors: entries.len(), quantized })
}

/// The plan of a tensor with its bytes in the file, which may not be those in memory.
pub(crate) fn with_file_bytes(mut planned: PlannedParam, entry: &Entry) -> PlannedParam {
    planned.bytes_before = entry.bytes;
    planned
}

pub(crate) fn candidates(from: &[Entry], options: Options<'_>) -> Vec<Candidate> {
    let candidate = |entry: &Entry| {
        let scheme = entry.scheme().filter(|_| !options.requantize);
        Candidate::new(entry.id.clone(), entry.shape.clone(), scheme)
    };
    from.iter().map(candidate).collect()
}

/// A tensor after quantization.
pub(crate) fn decided_entry(entry: &Entry, one: &Decided) -> RecordEntry {
    match one.scheme() {
        Some(scheme) => entry.stored_as(scheme),
        None => entry.to_record(),
    }
}

fn decided_targets(from: &[Entry], decided: &[Decided]) -> Vec<Target> {
    let target = |(entry, one): (&Entry, &Decided)| match one.scheme() {
        Some(scheme) => Target::Tensor(entry.stored_as(scheme)),
        None => stored(entry),
    };
    from.iter().zip(decided).map(target).collect()
}
