//! A checkpoint into a model directory.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use quant::__private::{Effect, common_grain, decide_all};
use quant::quantize::{PlannedParam, Planner, Reason};
use quant::{Plan, QuantizationScheme, Tensor};

use super::compressed::{Inputs, Slot};
use super::forms::{Form, forms, leave_out_tied, outputs};
use super::journal::{Journal, in_file};
use super::linear::LinearOnly;
use super::sequence::Sequence;
use super::shards::{DEFAULT_MAX_BYTES, Shards, size};
use super::{config, files};
use crate::checkpoint::Checkpoint;
use crate::effects::Effects;
use crate::entry::{Entry, StateEntry};
use crate::error::CheckpointError;
use crate::folder_error::FolderError;
use crate::format::Format;
use crate::options::Options;
use crate::output::copied;
use crate::piece::{Item, Piece};
use crate::pipeline::{self, Allocations};
use crate::rewrite::{candidates, check_any_quantized, check_readable, grain, quantizable, read};

/// Quantizes a checkpoint to a model directory, in which the quantized tensors are stored as
/// compressed-tensors does. The files beside the checkpoint are copied.
///
/// Embeddings, output layers and routers of experts, by their names, and tensors that are not
/// matrices called `….weight` stay float unless a rule of the planner names them.
///
/// A directory that is not complete has no index, and a journal. The same call goes on with it:
/// shards that are finished are kept, and the result has the same bytes.
///
/// # Errors
/// Those of [`quantize`](crate::quantize); [`CheckpointError::Folder`] if the directory is not empty,
/// holds the beginning of another job, or a tensor cannot be stored in its scheme.
pub fn quantize_folder(
    from: &Checkpoint,
    planner: &dyn Planner,
    inputs: Inputs,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<Plan, CheckpointError> {
    let entries = quantizable(from, options)?;
    if let Some(Entry { id, .. }) = from.entries().get(entries.len()) {
        return Err(FolderError::Blocks { id: id.clone() }.into());
    }
    let planner = LinearOnly(planner);
    let candidates = candidates(entries, options);
    let fingerprint = format!("{:?} {:?}", planner.decide(&candidates)?, planner.moments());
    let decided = decide_all(&planner, candidates)?;
    check_any_quantized(from, &decided)?;
    let scheme = |index: usize| decided[index].info.scheme.or(decided[index].scheme());
    let allocations = Allocations::default();
    let each = |piece: &Piece| {
        let part = read(from, piece, allocations.take(), options)?;
        let (effect, quantized) =
            decided[piece.item].quantize_part(piece.range.start, (&part).into())?;
        let Some(quantized) = quantized else { return Ok((Some(effect), part)) };
        allocations.give_back(part);
        Ok((Some(effect), quantized.into()))
    };
    let job = Job::new(from, inputs, scheme, to.as_ref(), options, &fingerprint)?;
    let division = |index: usize| (grain(from, index, &decided[index]), decided[index].beside());
    Ok(Plan::of_params(job.run(division, Effects::of(entries, &decided), each)?))
}

/// Copies a checkpoint to a model directory with every quantized tensor converted to float, and the
/// files beside it.
///
/// # Errors
/// Those of [`dequantize`](crate::dequantize), and [`CheckpointError::Folder`] if the directory is
/// not empty, or holds the beginning of another job.
pub fn dequantize_folder(
    from: &Checkpoint,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    check_readable(from)?;
    copy(from, Inputs::Float, |_| None, to.as_ref(), options)
}

/// Copies a checkpoint to a model directory. Quantized tensors are stored as compressed-tensors does,
/// those of other programs included, unless no scheme has their codes: these become floats.
///
/// # Errors
/// Those of [`convert`](crate::convert); [`CheckpointError::Folder`] if the directory is not empty,
/// holds the beginning of another job, or a tensor cannot be stored in its scheme;
/// [`CheckpointError::Refused`] as for [`dequantize`](crate::dequantize).
pub fn convert_folder(
    from: &Checkpoint,
    inputs: Inputs,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    check_readable(from)?;
    copy(from, inputs, |index| from.entries()[index].scheme(), to.as_ref(), options)
}

fn copy(
    from: &Checkpoint,
    inputs: Inputs,
    scheme: impl Fn(usize) -> Option<QuantizationScheme>,
    to: &Path,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let job = Job::new(from, inputs, scheme, to, options, "copy")?;
    let each = |piece: &Piece| Ok((None, read(from, piece, Vec::new(), options)?));
    job.run(|index| (copied(from.grain(index)), 0), Effects::of(&[], &[]), each).map(drop)
}

/// What is done to a piece of a tensor: the effect of quantizing it, and the piece afterwards.
type Done = (Option<Effect>, Tensor);

struct Job<'a> {
    from: &'a Checkpoint,
    /// How each entry is written.
    forms: Vec<Form>,
    /// The tensors of each entry, then of each state.
    outputs: Vec<Vec<Slot>>,
    shards: Shards,
    /// The new text of `config.json`.
    config: Option<String>,
    /// What the job depends on, as a number.
    fingerprint: String,
    to: &'a Path,
    options: Options<'a>,
}

impl<'a> Job<'a> {
    /// Finds everything that can fail before anything is written.
    fn new(
        from: &'a Checkpoint,
        inputs: Inputs,
        scheme: impl Fn(usize) -> Option<QuantizationScheme>,
        to: &'a Path,
        options: Options<'a>,
        decisions: &str,
    ) -> Result<Self, CheckpointError> {
        let mut forms = forms(from, inputs, scheme)?;
        let source = source_config(from)?;
        if source.as_ref().is_some_and(|(_, text)| config::is_tied(text)) {
            leave_out_tied(&mut forms, from, options)?;
        }
        let outputs = outputs(from, &forms)?;
        let sizes: Vec<u64> = outputs.iter().map(|slots| size(slots)).collect();
        let shards = Shards::divide(&sizes, options.max_shard_size.unwrap_or(DEFAULT_MAX_BYTES));
        let config = config_text(source, from, &forms, inputs)?;
        let fingerprint = fingerprint(from, &outputs, &shards, &config, decisions)?;
        Ok(Self { from, forms, outputs, shards, config, fingerprint, to, options })
    }

    /// `division` is the grain of `each`, which is called for each piece of a tensor, and the memory that
    /// each piece needs besides.
    fn run(
        self,
        division: impl Fn(usize) -> (Option<usize>, u64),
        mut effects: Effects<'_>,
        each: impl Fn(&Piece) -> Result<Done, CheckpointError> + Sync,
    ) -> Result<Vec<PlannedParam>, CheckpointError> {
        let Self { from, to, options, .. } = self;
        let (journal, finished) = Journal::open(to, &self.fingerprint)?;
        if let Some(directory) = directory(from) {
            files::copy(&files::others(directory)?, to)?;
        }
        if let Some(config) = &self.config {
            files::write(to, "config.json", config)?;
        }
        let is_finished = |output: usize| finished.contains_key(self.shard_name(output));
        let tensors = self.forms.len();
        let each = |piece: &Piece| -> Result<_, CheckpointError> {
            if is_finished(piece.item) {
                return Ok(None);
            }
            if let Some(state) = piece.item.checked_sub(tensors) {
                return Ok(Some((None, vec![from.state_part(state, piece.range.clone())?])));
            }
            if let Form::Tied(_) = self.forms[piece.item] {
                let (effect, _) = each(&Piece { range: 0..0, ..piece.clone() })?;
                return Ok(Some((effect, Vec::new())));
            }
            let (effect, part) = each(piece)?;
            Ok(Some((effect, self.forms[piece.item].bytes(&part, piece.is_first()))))
        };
        let items = self.items(division, is_finished);
        let metadata = from.metadata();
        let mut sequence = Sequence::new(to, &self.shards, &self.outputs, metadata, journal);
        pipeline::run(&items, from.held(), options, each, |piece, written| {
            let Some((effect, bytes)) = written else { return Ok(()) };
            effects.add(piece, effect);
            let mut planned = effects.pop();
            if let (Some(planned), Some(Form::Tied(of))) =
                (&mut planned, self.forms.get(piece.item))
            {
                planned.reason = Reason::EqualTo { id: from.entries()[*of].id.clone() };
            }
            sequence.put(piece, &bytes, planned)
        })?;
        let (journal, params) = sequence.finish(finished);
        if let Some(index) = self.shards.index(&self.outputs) {
            files::write(to, "model.safetensors.index.json", &index)?;
        }
        journal.remove()?;
        Ok(params)
    }

    /// The tensors and states, and what they need. Those that are finished are passed over.
    fn items(
        &self,
        division: impl Fn(usize) -> (Option<usize>, u64),
        is_finished: impl Fn(usize) -> bool,
    ) -> Vec<Item> {
        let tensor = |(index, entry): (usize, &Entry)| {
            let form = &self.forms[index];
            let needs = form.needs(entry, size(&self.outputs[index]));
            let (grain, beside) = division(index);
            Item::tensor(entry, common_grain(grain, Some(form.grain())), needs).beside(beside)
        };
        let state = |(index, state): (usize, StateEntry)| {
            let grain = copied(self.from.divides_state(index).then_some(1));
            Item::state(&state, grain)
        };
        let tensors = self.from.entries().iter().enumerate().map(tensor);
        let states = self.from.state_entries().into_iter().enumerate().map(state);
        let mut items: Vec<Item> = tensors.chain(states).collect();
        let finished = items.iter_mut().enumerate().filter(|(output, _)| is_finished(*output));
        finished.for_each(|(_, item)| (item.needs, item.beside) = (0, 0));
        items
    }

    fn shard_name(&self, output: usize) -> &str {
        &self.shards.0[self.shards.of(output)].0
    }
}

/// The directory of the files beside a checkpoint in safetensors.
fn directory(from: &Checkpoint) -> Option<&Path> {
    let path = from.files().next().filter(|_| from.format() == Format::Safetensors)?;
    let directory = path.parent()?;
    Some(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })
}

/// The configuration beside a checkpoint: its path and its text.
fn source_config(from: &Checkpoint) -> Result<Option<(PathBuf, String)>, CheckpointError> {
    Ok(directory(from).map(files::config).transpose()?.flatten())
}

/// The new text of `config.json`, from that of the source; `None` if there is none, and nothing to say.
fn config_text(
    source: Option<(PathBuf, String)>,
    from: &Checkpoint,
    forms: &[Form],
    inputs: Inputs,
) -> Result<Option<String>, CheckpointError> {
    let ids = || from.entries().iter().zip(forms);
    let quantized = || {
        ids().filter_map(|(entry, form)| match form {
            Form::Compressed(form) => Some((&entry.id, *form)),
            _ => None,
        })
    };
    let float = ids().filter(|(entry, form)| {
        let is_matrix = entry.shape.len() >= 2 && entry.id.as_str().ends_with(".weight");
        is_matrix && !matches!(form, Form::Compressed(_))
    });
    let float = float.map(|(entry, _)| &entry.id);
    let quantization = quantized().next().map(|_| config::quantization(quantized(), float, inputs));
    let (path, text) = match (source, &quantization) {
        (Some((path, text)), _) => (path, text),
        (None, Some(_)) => ("config.json".into(), "{}".into()),
        (None, None) => return Ok(None),
    };
    let changed = config::with_quantization(&text, quantization.as_ref());
    Ok(Some(changed.map_err(|error| FolderError::Config { path, source: error.into() })?))
}

/// A number that differs where anything that the result depends on does.
fn fingerprint(
    from: &Checkpoint,
    outputs: &[Vec<Slot>],
    shards: &Shards,
    config: &Option<String>,
    decisions: &str,
) -> Result<String, CheckpointError> {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), decisions, config, &shards.0).hash(&mut hasher);
    for path in from.files() {
        let metadata = path.metadata().map_err(|error| in_file(path, error))?;
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        (path, metadata.len(), modified).hash(&mut hasher);
    }
    for (name, dtype, shape) in outputs.iter().flatten() {
        (name, dtype.name(), shape).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
