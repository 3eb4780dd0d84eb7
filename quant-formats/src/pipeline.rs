//! Tensors of a checkpoint through memory: several threads compute one batch while the batch
//! before it is written.

use std::num::NonZero;
use std::ops::Range;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use quant::Tensor;
use quant::tensor::FloatType;

use crate::entry::Entry;
use crate::error::CheckpointError;
use crate::options::Options;

/// The memory of the process besides tensors: code, stacks, buffers, and what the allocator keeps.
const OVERHEAD: u64 = 24 << 20;

/// The memory for tensors without a limit. A tensor that is larger is processed alone.
const DEFAULT_MEMORY: u64 = 512 << 20;

/// Calls `each` for every position, on several threads, and `sink` with the results in order.
///
/// `needs` is the memory that each tensor [needs](needed); `held` bytes of other data stay in memory.
pub(crate) fn run<R: Send>(
    from: &[&Entry],
    needs: &[u64],
    held: u64,
    options: Options<'_>,
    each: impl Fn(usize) -> Result<R, CheckpointError> + Sync,
    mut sink: impl FnMut(usize, R) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    check(from, needs, held, options)?;
    let batches = batches(needs, held, options.max_memory);
    let progress = |index: usize| {
        if let Some(progress) = options.progress {
            progress(index, from[index].float_bytes());
        }
    };
    let each = |index| {
        options.check()?;
        each(index).inspect(|_| progress(index))
    };
    let pool = Pool::new(options.jobs)?;
    thread::scope(|scope| {
        // No batch waits in the channel: one is computed while another one is written.
        let (sender, receiver) = mpsc::sync_channel(0);
        scope.spawn(move || {
            for batch in batches {
                let results = pool.map(batch.clone(), &each);
                if sender.send((batch, results)).is_err() {
                    // The receiver has met an error.
                    return;
                }
            }
        });
        for (batch, results) in receiver {
            for (index, result) in batch.zip(results) {
                sink(index, result?)?;
            }
        }
        options.check()
    })
}

/// The memory of one tensor: its values, and the result of `len` bytes twice, in this batch and in
/// the one that is being written.
pub(crate) fn needed(from: &Entry, len: u64) -> u64 {
    from.read_bytes().saturating_add(len.saturating_mul(2))
}

/// Runs of tensors that fit into memory together.
fn batches(needs: &[u64], held: u64, max_memory: Option<u64>) -> Vec<Range<usize>> {
    let room = max_memory.map_or(DEFAULT_MEMORY, |limit| limit.saturating_sub(OVERHEAD + held));
    runs(needs, room)
}

/// Divides sizes, in order, into runs of at most `max` together; a larger one is a run of its own.
pub(crate) fn runs(sizes: &[u64], max: u64) -> Vec<Range<usize>> {
    let (mut runs, mut start, mut used) = (Vec::new(), 0, 0u64);
    for (index, &size) in sizes.iter().enumerate() {
        if index > start && used.saturating_add(size) > max {
            runs.push(start..index);
            (start, used) = (index, 0);
        }
        used = used.saturating_add(size);
    }
    runs.push(start..sizes.len());
    runs
}

/// Checks that every tensor fits into the memory. The error says what is enough for all of them.
pub(crate) fn check(
    from: &[&Entry],
    needs: &[u64],
    held: u64,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let Some(limit) = options.max_memory else { return Ok(()) };
    let sizes = needs.iter().copied().enumerate();
    let (largest, size) = sizes.max_by_key(|&(_, size)| size).unwrap_or((0, 0));
    let always = OVERHEAD.saturating_add(held);
    let needed = always.saturating_add(size);
    if needed <= limit {
        return Ok(());
    }
    let tensor = from.get(largest).filter(|_| held < size);
    Err(CheckpointError::Memory { id: tensor.map(|entry| entry.id.clone()), needed, limit })
}

/// Allocations of float tensors that have been quantized, for the next ones to be read into.
#[derive(Default)]
pub(crate) struct Allocations(Mutex<Vec<Vec<f32>>>);

impl Allocations {
    pub(crate) fn take(&self) -> Vec<f32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&self, tensor: Tensor) {
        if tensor.float_type() == Some(FloatType::F32) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(tensor.into_values());
        }
    }
}

/// The threads that work on a batch.
struct Pool {
    #[cfg(feature = "rayon")]
    threads: rayon::ThreadPool,
}

#[cfg(feature = "rayon")]
impl Pool {
    fn new(jobs: Option<NonZero<usize>>) -> Result<Self, CheckpointError> {
        // More threads take memory and gain nothing.
        const JOBS_PER_CPU: usize = 4;
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let jobs = jobs.map_or(cpus, |jobs| jobs.get().min(JOBS_PER_CPU * cpus));
        match rayon::ThreadPoolBuilder::new().num_threads(jobs).build() {
            Ok(threads) => Ok(Self { threads }),
            Err(error) => Err(CheckpointError::Threads { source: std::io::Error::other(error) }),
        }
    }

    fn map<R: Send>(&self, batch: Range<usize>, each: &(impl Fn(usize) -> R + Sync)) -> Vec<R> {
        use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
        self.threads.install(|| batch.into_par_iter().with_max_len(1).map(each).collect())
    }
}

#[cfg(not(feature = "rayon"))]
impl Pool {
    fn new(_jobs: Option<NonZero<usize>>) -> Result<Self, CheckpointError> {
        Ok(Self {})
    }

    fn map<R>(&self, batch: Range<usize>, each: &impl Fn(usize) -> R) -> Vec<R> {
        batch.map(each).collect()
    }
}
