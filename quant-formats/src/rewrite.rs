//! From one checkpoint to a plan, or to another checkpoint.

use std::collections::HashMap;
use std::path::Path;

use quant::__private::{Decided, Effect, common_grain, decide_all};
use quant::quantize::mixed::{MixedChoice, MixedPrecision};
use quant::quantize::{Candidate, Planner, Reason};
use quant::record::RecordEntry;
use quant::tensor::FloatType;
use quant::{ParamId, Plan, QuantizeError, RecordError, Tensor};

use crate::checkpoint::Checkpoint;
use crate::effects::Effects;
use crate::entry::{Entry, Stored};
use crate::error::CheckpointError;
use crate::ggml::{ALL_F32, FILE_TYPE};
use crate::memory;
use crate::method::PreQuantized;
use crate::options::Options;
use crate::output::{Made, Output, Target, copied, write};
use crate::piece::{Item, Piece, Sum};
use crate::pipeline::{self, Allocations};

/// Plans the quantization of a checkpoint, without writing anything. Every tensor is read once, and
/// those of one type and shape again as far as it takes to find equal ones: they are planned as in a
/// record of one file, which stores them once.
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
    let stays = |index: usize| stays(&entries[index], &decided[index], options);
    let item = |(index, entry): (usize, &Entry)| {
        let needs = match (stays(index), decided[index].scheme()) {
            (true, _) => 0,
            (false, Some(_)) => memory::of_values(entry),
            (false, None) => memory::of_copy(entry),
        };
        let beside = if stays(index) { 0 } else { decided[index].beside() };
        Item::tensor(entry, grain(from, index, &decided[index]), needs).beside(beside)
    };
    let items: Vec<Item> = entries.iter().enumerate().map(item).collect();
    let allocations = Allocations::default();
    let each = |piece: &Piece| {
        if stays(piece.item) {
            return Ok(None);
        }
        let part = read(from, piece, allocations.take(), options)?;
        let effect = decided[piece.item].measure_part(piece.range.start, (&part).into())?;
        allocations.give_back(part);
        Ok(Some(effect))
    };
    let mut effects = Effects::of(entries, &decided);
    pipeline::run(&items, from.held(), options, each, |piece, effect| {
        effects.add(piece, effect);
        Ok(())
    })?;
    let output = quantized(from, &decided);
    let output = output.share_in_record(from, options, |a, b| become_same(&decided, a, b))?;
    effects.share(output.aliases());
    Ok(effects.plan())
}

/// Plans the quantization of a checkpoint by the names, shapes and types of its tensors. No values are
/// read: errors, warnings and tensors that are equal are not found.
///
/// ```
/// use quant::{BincodeRecorder, Module, Param, Recipe};
/// use quant_formats::Options;
///
/// # let path = std::env::temp_dir().join(format!("quant-doc-by-shapes-{}.quant", std::process::id()));
/// vec![Param::new([[0.5f32; 64]; 8])].save_file(&path, &BincodeRecorder::default())?;
/// let recipe = Recipe::new().scheme("per-channel-symmetric-int8".parse()?);
/// let checkpoint = quant_formats::open(&path)?;
/// let plan = quant_formats::plan_by_shapes(&checkpoint, &recipe, Options::default())?;
/// assert_eq!((plan.bytes_after(), plan.params()[0].expected), (8 * 64 + 8 * 4, None));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The planner's rules do not fit the checkpoint, or a scheme does not fit the shape of a tensor.
pub fn plan_by_shapes(
    from: &Checkpoint,
    planner: &dyn Planner,
    options: Options<'_>,
) -> Result<Plan, CheckpointError> {
    let entries = quantizable(from, options)?;
    let decided = decide(entries, planner, options)?;
    let alias = |index: usize| {
        let of = from.alias_of(index).filter(|&of| become_same(&decided, index, of))?;
        Some((index, entries[of].id.clone()))
    };
    let mut aliases: HashMap<usize, ParamId> = (0..entries.len()).filter_map(alias).collect();
    let mut params = Vec::with_capacity(entries.len());
    for (index, (entry, one)) in entries.iter().zip(decided).enumerate() {
        options.check()?;
        if stays(entry, &one, options) {
            continue;
        }
        let mut planned = one.planned_by_shape(entry.bytes, entry.to_record().byte_count())?;
        if let Some(id) = aliases.remove(&index) {
            (planned.reason, planned.bytes_after) = (Reason::EqualTo { id }, 0);
        }
        params.push(planned);
    }
    Ok(Plan::of_params(params))
}

/// What a checkpoint becomes if its first tensors are quantized as decided.
fn quantized(from: &Checkpoint, decided: &[Decided]) -> Output {
    let target = |(index, entry): (usize, &Entry)| match decided.get(index) {
        Some(one) if one.scheme().is_some() => {
            let grain = grain(from, index, one);
            Target::made(from, index, decided_entry(entry, one), grain).beside(one.beside())
        }
        _ => Target::copy(from, index),
    };
    Output::of(from, from.entries().iter().enumerate().map(target).collect())
}

/// Whether the same becomes of two tensors that are equal.
fn become_same(decided: &[Decided], a: usize, b: usize) -> bool {
    match (decided.get(a), decided.get(b)) {
        (Some(a), Some(b)) => a.is_same(b),
        (a, b) => a.is_none() && b.is_none(),
    }
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
    let item = |(index, entry): (usize, &Entry)| {
        let grain = common_grain(from.grain(index), mixed.grain(&decided[index]));
        let beside = mixed.beside(&decided[index]);
        Item::tensor(entry, grain, memory::of_values(entry)).beside(beside)
    };
    let items: Vec<Item> = entries.iter().enumerate().map(item).collect();
    let allocations = Allocations::default();
    let each = |piece: &Piece| {
        let part = read(from, piece, allocations.take(), options)?;
        let one = &decided[piece.item];
        let effects = mixed.effects_on(one, piece.range.start, (&part).into())?;
        allocations.give_back(part);
        Ok(effects)
    };
    let (mut effects, mut offers) = (Sum::default(), Vec::new());
    let add = |sum: Vec<Effect>, more: Vec<Effect>| {
        sum.into_iter().zip(more).map(|(sum, one)| sum.and(one)).collect()
    };
    pipeline::run(&items, from.held(), options, each, |piece, one| {
        if let Some(all) = effects.add(piece, one, add) {
            offers.push(mixed.offers_of(&decided[piece.item], &all)?);
        }
        Ok(())
    })?;
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
    let entries = from.entries();
    let allocations = Allocations::default();
    let each = |piece: &Piece| {
        let decided = decided.get(piece.item);
        let Some(decided) = decided.filter(|it| !stays(&entries[piece.item], it, options)) else {
            return Ok((None, copy(from, piece)?));
        };
        let part = read(from, piece, allocations.take(), options)?;
        let (effect, quantized) = decided.quantize_part(piece.range.start, (&part).into())?;
        let Some(quantized) = quantized else { return Ok((Some(effect), Made::Tensor(part))) };
        allocations.give_back(part);
        Ok((Some(effect), Made::Tensor(quantized.into())))
    };
    let mut effects = Effects::of(entries, &decided);
    let to = to.as_ref();
    let output = quantized(from, &decided);
    let output = output.share(from, to, options, |a, b| become_same(&decided, a, b))?;
    let aliases = output.aliases().to_vec();
    write(from, output, to, options, each, |piece, one| effects.add(piece, one))?;
    effects.share(&aliases);
    Ok(effects.plan())
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
    let target =
        |(index, entry)| Target::made(from, index, float(entry), copied(from.grain(index)));
    let floats = from.entries().iter().enumerate().map(target);
    let each = |piece: &Piece| {
        let part = from.read_part(piece.item, piece.range.clone(), Vec::new())?;
        Ok(((), Made::Tensor(part.dequantize())))
    };
    let output = Output::of(from, floats.collect()).update(FILE_TYPE, ALL_F32);
    let output = output.share(from, to.as_ref(), options, |_, _| true)?;
    write(from, output, to.as_ref(), options, each, |_, ()| {})
}

/// Copies a checkpoint to another file, in the format of its extension.
///
/// A tensor that another program has quantized is written with its codes where a scheme has them, and
/// otherwise as floats; or as it is if its values cannot be computed.
///
/// # Errors
/// A tensor cannot be read, or the output cannot be written. The output keeps its old content then.
pub fn convert(
    from: &Checkpoint,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let targets = (0..from.entries().len()).map(|index| Target::copy(from, index)).collect();
    let each = |piece: &Piece| Ok(((), copy(from, piece)?));
    let output = Output::of(from, targets).share(from, to.as_ref(), options, |_, _| true)?;
    write(from, output, to.as_ref(), options, each, |_, ()| {})
}

/// Makes a piece of what [`Target::copy`] declares.
pub(crate) fn copy(from: &Checkpoint, piece: &Piece) -> Result<Made, CheckpointError> {
    let (index, range) = (piece.item, piece.range.clone());
    Ok(match from.entries()[index].stored {
        Stored::Blocks(ty) => Made::Bytes(from.blocks_part(index, ty.bytes_of(range))?),
        _ => Made::Tensor(from.read_part(index, range, Vec::new())?),
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

/// The number of elements at multiples of which a tensor can be divided.
pub(crate) fn grain(from: &Checkpoint, index: usize, decided: &Decided) -> Option<usize> {
    match decided.scheme() {
        Some(_) => common_grain(from.grain(index), decided.grain()),
        None => copied(from.grain(index)),
    }
}

/// Whether a tensor that may be quantized again stays as it is, because the planner keeps it.
pub(crate) fn stays(entry: &Entry, decided: &Decided, options: Options<'_>) -> bool {
    options.requantize && entry.is_quantized() && decided.scheme().is_none()
}

/// Reads a piece of a tensor that is to be quantized: one that is quantized already as floats.
pub(crate) fn read(
    from: &Checkpoint,
    piece: &Piece,
    allocation: Vec<f32>,
    options: Options<'_>,
) -> Result<Tensor, RecordError> {
    let part = from.read_part(piece.item, piece.range.clone(), allocation)?;
    Ok(if options.requantize { part.dequantize() } else { part })
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
