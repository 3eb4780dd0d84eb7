//! From one checkpoint to another, a few tensors at a time.

use core::fmt;
use core::num::NonZero;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use super::{Checkpoint, CheckpointWriter, Entry, Manifest, create, record_entries};
use quant::__private::{Decided, decide_all, plan_one, quantize_one};
use quant::module::ParamId;
use quant::quantize::mixed::{MixedChoice, MixedPrecision, MixedPrecisionError};
use quant::quantize::{Candidate, Plan, PlannedParam, Planner, QuantizeError};
use quant::record::{RecordEntry, RecordError};
use quant::tensor::Tensor;

/// How a checkpoint is rewritten: with how much of the machine, and who is told of progress.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct Options<'a> {
    /// The number of threads; all of the machine's if it is `None`. One without the feature
    /// `rayon`.
    pub jobs: Option<NonZero<usize>>,
    /// The memory in bytes that tensors and the process around them take at most.
    pub max_memory: Option<u64>,
    /// Writes a record in parts of at most so many bytes.
    pub max_part_size: Option<u64>,
    /// Called when a tensor is done, with its position and its bytes as single precision.
    pub progress: Option<&'a (dyn Fn(usize, u64) + Sync)>,
    /// No further tensor is begun, and nothing is written, once this is true.
    pub cancelled: Option<&'a AtomicBool>,
}

impl Options<'_> {
    fn check(&self) -> Result<(), CheckpointError> {
        match self.cancelled {
            Some(cancelled) if cancelled.load(Ordering::Relaxed) => Err(CheckpointError::Cancelled),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, max_memory, max_part_size, .. } = self;
        f.debug_struct("Options")
            .field("jobs", jobs)
            .field("max_memory", max_memory)
            .field("max_part_size", max_part_size)
            .finish_non_exhaustive()
    }
}

/// What quantizing a checkpoint would do, without doing it.
///
/// Every tensor is read once. There are no attributes in a file: the planner's rules, and the rank,
/// decide.
///
/// # Errors
/// See [`CheckpointError`].
pub fn plan(
    from: &dyn Checkpoint,
    planner: &dyn Planner,
    options: Options<'_>,
) -> Result<Plan, CheckpointError> {
    let decided = decide(from, planner)?;
    let mut planned = Vec::new();
    let memory = Memory::default();
    let each = |index: usize| {
        let tensor = from.read_into(index, memory.take())?;
        let planned = plan_one(decided[index].clone(), (&tensor).into())?;
        memory.give(tensor);
        Ok(in_file(planned, from, index))
    };
    in_order(from, &decided_entries(&decided), options, each, |_, param| {
        planned.push(param);
        Ok(())
    })?;
    Ok(Plan::of_params(planned))
}

/// Chooses a precision for each tensor within a budget of bytes, reading every tensor once. The
/// choice is a planner, for this checkpoint.
///
/// # Errors
/// See [`CheckpointError`].
pub fn choose(
    from: &dyn Checkpoint,
    mixed: &MixedPrecision,
    options: Options<'_>,
) -> Result<MixedChoice, CheckpointError> {
    let decided = mixed.decide(candidates(from))?;
    let mut offers = Vec::new();
    let each = |index: usize| Ok(mixed.offers_to(&decided[index], (&from.read(index)?).into())?);
    in_order(from, &decided_entries(&decided), options, each, |_, offered| {
        offers.push(offered);
        Ok(())
    })?;
    let now = from.entries().iter().map(|entry| entry.bytes).sum();
    Ok(mixed.choose(decided, &offers, now)?)
}

/// Quantizes a checkpoint into another file, whose extension says in which format.
///
/// ```
/// use quant::{BincodeRecorder, Module, Param, Recipe};
/// use quant_formats::Options;
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-rewrite-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let (from, to) = (directory.join("model.quant"), directory.join("int8.quant"));
/// vec![Param::new([[0.5f32; 64]; 8])].save_file(&from, &BincodeRecorder::default())?;
///
/// let recipe = Recipe::new().scheme("per-channel-symmetric-int8".parse()?);
/// let plan = quant_formats::quantize(&*quant_formats::open(&from)?, &recipe, &to, Options::default())?;
/// println!("{plan}");
/// assert!(quant_formats::open(&to)?.entries()[0].scheme().is_some());
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`CheckpointError`]. The file keeps its old content then.
pub fn quantize(
    from: &dyn Checkpoint,
    planner: &dyn Planner,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<Plan, CheckpointError> {
    let decided = decide(from, planner)?;
    let entries = decided_entries(&decided);
    let mut planned: Vec<PlannedParam> = Vec::new();
    let memory = Memory::default();
    let each = |index: usize| {
        let tensor = from.read_into(index, memory.take())?;
        let (planned, quantized) = quantize_one(decided[index].clone(), &tensor)?;
        let planned = in_file(planned, from, index);
        let Some(quantized) = quantized else { return Ok((planned, tensor)) };
        memory.give(tensor);
        Ok((planned, quantized.into()))
    };
    write(from, entries, to.as_ref(), options, each, |param| planned.push(param))?;
    Ok(Plan::of_params(planned))
}

/// Copies a checkpoint to another file with every quantized tensor made float.
///
/// # Errors
/// See [`CheckpointError`]. The file keeps its old content then.
pub fn dequantize(
    from: &dyn Checkpoint,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let entries = record_entries(from, |_| None);
    let each = |index: usize| Ok(((), from.read(index)?.dequantize()));
    write(from, entries, to.as_ref(), options, each, |()| {})
}

/// Copies a checkpoint to another file, whose extension says in which format.
///
/// # Errors
/// See [`CheckpointError`]. The file keeps its old content then.
pub fn convert(
    from: &dyn Checkpoint,
    to: impl AsRef<Path>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let entries = record_entries(from, Entry::scheme);
    write(from, entries, to.as_ref(), options, |index| Ok(((), from.read(index)?)), |()| {})
}

pub(super) fn decide(
    from: &dyn Checkpoint,
    planner: &dyn Planner,
) -> Result<Vec<Decided>, QuantizeError> {
    decide_all(planner, candidates(from))
}

/// What is planned, with the bytes that the tensor takes in its file: half precision takes half.
fn in_file(mut planned: PlannedParam, from: &dyn Checkpoint, index: usize) -> PlannedParam {
    planned.bytes_before = from.entries()[index].bytes;
    planned
}

fn candidates(from: &dyn Checkpoint) -> Vec<Candidate> {
    let candidate =
        |entry: &Entry| Candidate::new(entry.id.clone(), entry.shape.clone(), entry.scheme());
    from.entries().iter().map(candidate).collect()
}

/// The entries as they will be.
pub(super) fn decided_entries(decided: &[Decided]) -> Vec<RecordEntry> {
    let entry = |one: &Decided| {
        let scheme = one.info.scheme.or(one.scheme());
        RecordEntry::new(one.info.id.clone(), one.info.shape.clone(), scheme)
    };
    decided.iter().map(entry).collect()
}

/// Writes what `each` makes of the tensor at each position; `done` is told what else it says.
fn write<R: Send>(
    from: &dyn Checkpoint,
    entries: Vec<RecordEntry>,
    to: &Path,
    options: Options<'_>,
    each: impl Fn(usize) -> Result<(R, Tensor), CheckpointError> + Sync,
    mut done: impl FnMut(R),
) -> Result<(), CheckpointError> {
    let manifest = Manifest::new(entries.clone())
        .with_metadata(from.metadata().clone())
        .with_states(from.states()?)
        .with_max_shard_size(options.max_part_size);
    let mut writer: Box<dyn CheckpointWriter> = create(to, manifest)?;
    in_order(from, &entries, options, each, |index, (said, tensor)| {
        done(said);
        Ok(writer.write(entries[index].id.as_str(), &tensor)?)
    })?;
    options.check()?;
    Ok(writer.finish()?)
}

/// What the process takes besides tensors: code, stacks, buffers, what the allocator keeps.
const AROUND: u64 = 24 << 20;

/// The memory for tensors when no limit is given. One that is larger is taken alone.
const DEFAULT_MEMORY: u64 = 512 << 20;

/// Calls `each` for every tensor, a batch at a time by several threads, and `sink` with the results
/// in order, while the next batch is on its way.
pub(super) fn in_order<R: Send>(
    from: &dyn Checkpoint,
    entries: &[RecordEntry],
    options: Options<'_>,
    each: impl Fn(usize) -> Result<R, CheckpointError> + Sync,
    mut sink: impl FnMut(usize, R) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let batches = batches(from, entries, options.max_memory)?;
    let progress = |index: usize| {
        if let Some(progress) = options.progress {
            progress(index, 4 * from.entries()[index].element_count() as u64);
        }
    };
    let each = |index| {
        options.check()?;
        each(index).inspect(|_| progress(index))
    };
    let pool = Pool::new(options.jobs)?;
    thread::scope(|scope| {
        // Nothing waits in the channel: one batch is being made while one is being written.
        let (sender, receiver) = mpsc::sync_channel(0);
        scope.spawn(move || {
            for batch in batches {
                let results = pool.map(batch.clone(), &each);
                if sender.send((batch, results)).is_err() {
                    // The other side has met an error.
                    return;
                }
            }
        });
        for (batch, results) in receiver {
            for (index, result) in batch.zip(results) {
                sink(index, result?)?;
            }
        }
        Ok(())
    })
}

/// Floats that have been quantized leave their memory to those that come next: one for each thread.
#[derive(Default)]
struct Memory(Mutex<Vec<Vec<f32>>>);

impl Memory {
    fn take(&self) -> Vec<f32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, tensor: Tensor) {
        if !tensor.is_quantized() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(tensor.into_values());
        }
    }
}

type Batch = core::ops::Range<usize>;

/// Runs of tensors that fit into memory together.
fn batches(
    from: &dyn Checkpoint,
    entries: &[RecordEntry],
    max_memory: Option<u64>,
) -> Result<Vec<Batch>, CheckpointError> {
    let room = max_memory.map_or(DEFAULT_MEMORY, |limit| limit.saturating_sub(AROUND));
    let (mut batches, mut start, mut used) = (Vec::new(), 0, 0u64);
    for (index, (source, entry)) in from.entries().iter().zip(entries).enumerate() {
        // The floats, and the result twice: of this batch and of the one that is being written.
        let floats = 4 * source.element_count() as u64;
        let needed = floats.saturating_add(entry.byte_count().saturating_mul(2));
        if let Some(limit) = max_memory
            && needed > room
        {
            let (id, needed) = (entry.id.clone(), needed.saturating_add(AROUND));
            return Err(CheckpointError::Memory { id, needed, limit });
        }
        if index > start && used.saturating_add(needed) > room {
            batches.push(start..index);
            (start, used) = (index, 0);
        }
        used = used.saturating_add(needed);
    }
    batches.push(start..entries.len());
    Ok(batches)
}

/// The threads that work on a batch.
struct Pool {
    #[cfg(feature = "rayon")]
    threads: rayon::ThreadPool,
}

#[cfg(feature = "rayon")]
impl Pool {
    fn new(jobs: Option<NonZero<usize>>) -> Result<Self, CheckpointError> {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(jobs.map_or(0, NonZero::get));
        let threads = builder
            .build()
            .map_err(|error| CheckpointError::Threads { reason: error.to_string() })?;
        Ok(Self { threads })
    }

    fn map<R: Send>(&self, batch: Batch, each: &(impl Fn(usize) -> R + Sync)) -> Vec<R> {
        use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
        self.threads.install(|| batch.into_par_iter().with_max_len(1).map(each).collect())
    }
}

#[cfg(not(feature = "rayon"))]
impl Pool {
    fn new(_jobs: Option<NonZero<usize>>) -> Result<Self, CheckpointError> {
        Ok(Self {})
    }

    fn map<R>(&self, batch: Batch, each: &impl Fn(usize) -> R) -> Vec<R> {
        batch.map(each).collect()
    }
}

/// A checkpoint cannot be planned, quantized or copied as asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read or written.
    Record(RecordError),
    /// It cannot be quantized as asked.
    Quantize(QuantizeError),
    /// No precisions can be chosen within the budget.
    Mixed(MixedPrecisionError),
    /// A tensor takes more memory than is allowed.
    Memory {
        /// The tensor.
        id: ParamId,
        /// The bytes that would be enough.
        needed: u64,
        /// The bytes that are allowed.
        limit: u64,
    },
    /// Somebody has asked to stop, and nothing was written.
    Cancelled,
    /// The system gives no threads.
    Threads {
        /// Its reason.
        reason: String,
    },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => error.fmt(f),
            Self::Quantize(error) => error.fmt(f),
            Self::Mixed(error) => error.fmt(f),
            Self::Memory { id, needed, limit } => {
                write!(f, "{id}: takes {needed} bytes of memory, and {limit} are allowed")
            }
            Self::Cancelled => f.write_str("cancelled"),
            Self::Threads { reason } => write!(f, "threads cannot be started: {reason}"),
        }
    }
}

impl Error for CheckpointError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Record(error) => error.source(),
            Self::Quantize(error) => error.source(),
            Self::Mixed(error) => error.source(),
            Self::Memory { .. } | Self::Cancelled | Self::Threads { .. } => None,
        }
    }
}

impl From<RecordError> for CheckpointError {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl From<MixedPrecisionError> for CheckpointError {
    fn from(error: MixedPrecisionError) -> Self {
        Self::Mixed(error)
    }
}

impl From<QuantizeError> for CheckpointError {
    fn from(error: QuantizeError) -> Self {
        Self::Quantize(error)
    }
}
