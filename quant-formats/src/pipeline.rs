//! Tensors and states of a checkpoint through memory, in pieces: several threads compute one batch of
//! pieces while the batch before it is written.

use std::num::NonZero;
use std::ops::Range;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use quant::Tensor;
use quant::tensor::FloatType;

use crate::error::CheckpointError;
use crate::options::Options;
use crate::piece::{Item, Piece, divide};

/// The memory of the process besides tensors: code, stacks, buffers, and what the allocator keeps.
const OVERHEAD: u64 = 24 << 20;

/// The memory for tensors without a limit. A tensor that is larger, and cannot be divided, is
/// processed alone.
const DEFAULT_MEMORY: u64 = 512 << 20;

/// The memory of a piece, at most, of what can be divided: as it is converted, measured and quantized,
/// it stays in a second-level cache. Pieces of 32 MiB take 1.2 times as long.
const PIECE: u64 = 2 << 20;

/// Calls `each` for every piece, on several threads, and `sink` with the results in order.
///
/// `held` bytes of other data stay in memory.
pub(crate) fn run<R: Send>(
    items: &[Item],
    held: u64,
    options: Options<'_>,
    each: impl Fn(&Piece) -> Result<R, CheckpointError> + Sync,
    mut sink: impl FnMut(&Piece, R) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    check(items, held, options)?;
    let room = options.max_memory.map_or(DEFAULT_MEMORY, |limit| limit - OVERHEAD - held);
    let jobs = jobs(options.jobs);
    let share = room / jobs as u64;
    let pieces = divide(items, PIECE.min(share), share);
    let needs: Vec<u64> =
        pieces.iter().map(|piece| items[piece.item].needs_of(piece.range.len())).collect();
    let batches = runs(&needs, room);
    let progress = |piece: &Piece| {
        if let Some(progress) = options.progress.filter(|_| items[piece.item].is_tensor) {
            progress(piece.item, 4 * piece.range.len() as u64);
        }
    };
    let each = |position: usize| {
        options.check()?;
        each(&pieces[position]).inspect(|_| progress(&pieces[position]))
    };
    let pool = Pool::new(jobs)?;
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
            for (position, result) in batch.zip(results) {
                sink(&pieces[position], result?)?;
            }
        }
        options.check()
    })
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

/// Checks that the smallest piece of everything fits into the memory. The error says what is enough
/// for all of them.
pub(crate) fn check(
    items: &[Item],
    held: u64,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let Some(limit) = options.max_memory else { return Ok(()) };
    let largest = items.iter().max_by_key(|item| item.least());
    let size = largest.map_or(0, Item::least);
    let needed = OVERHEAD.saturating_add(held).saturating_add(size);
    if needed <= limit {
        return Ok(());
    }
    let id = largest.filter(|_| held < size).map(|item| item.id.clone());
    Err(CheckpointError::Memory { id, needed, limit })
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

/// More threads take memory and gain nothing.
const JOBS_PER_CPU: usize = 4;

/// The number of threads.
fn jobs(asked: Option<NonZero<usize>>) -> usize {
    if !cfg!(feature = "rayon") {
        return 1;
    }
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    asked.map_or(cpus, |jobs| jobs.get().min(JOBS_PER_CPU * cpus))
}

/// The threads that work on a batch.
struct Pool {
    #[cfg(feature = "rayon")]
    threads: rayon::ThreadPool,
}

#[cfg(feature = "rayon")]
impl Pool {
    fn new(jobs: usize) -> Result<Self, CheckpointError> {
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
    fn new(_jobs: usize) -> Result<Self, CheckpointError> {
        Ok(Self {})
    }

    fn map<R>(&self, batch: Range<usize>, each: &impl Fn(usize) -> R) -> Vec<R> {
        batch.map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_cpus_bounds_that_of_threads() {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        assert!((1..=JOBS_PER_CPU * cpus).contains(&jobs(NonZero::new(1_000_000))));
        assert_eq!(jobs(NonZero::new(1)), 1);
        assert!(jobs(None) <= cpus);
    }

    #[test]
    fn the_memory_of_an_error_is_that_of_the_smallest_piece() {
        let options = Options { max_memory: Some(OVERHEAD), ..Options::default() };
        let item = |grain, needs| Item {
            id: "w".into(),
            len: 10,
            grain,
            needs,
            beside: 0,
            is_tensor: true,
        };
        let items = [item(Some(3), 100), item(None, 20)];
        let error = check(&items, 7, options).unwrap_err();
        let CheckpointError::Memory { id, needed, .. } = error else { panic!("{error:?}") };
        assert_eq!((id.unwrap(), needed), ("w".into(), OVERHEAD + 7 + 30));
        check(&items, 7, Options { max_memory: Some(needed), ..options }).unwrap();
    }
}
