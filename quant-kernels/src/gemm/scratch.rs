//! PackedABuffers to work in, and how many threads use it.

use crate::dispatch::Kernel;
use crate::isa::Line;
use crate::pack::source::Row;
use crate::parallel::in_pool;
use crate::scheme::NonFinite;
use alloc::vec::Vec;

/// Buffers that calls share, so that none of them allocates once they have grown to the largest.
///
/// It belongs to one thread at a time; [`Scratch::with_threads`] says how many threads a call may
/// use. The outputs do not depend on that number.
#[derive(Debug)]
pub struct Scratch {
    pub(crate) shared: PackedABuffers,
    /// An image of a convolution, and the same in another order.
    pub(crate) codes: Vec<i8>,
    pub(crate) laid_out: Vec<u8>,
    pub(crate) workers: Vec<Worker>,
}

/// What one thread needs for itself.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    pub(crate) packed_a: PackedABuffers,
    pub(crate) unpacked: Vec<Line>,
    pub(crate) accumulators: Vec<f32>,
    pub(crate) error: Option<NonFinite>,
}

/// PackedA rows.
#[derive(Debug, Default)]
pub(crate) struct PackedABuffers {
    pub(crate) lines: Vec<Line>,
    pub(crate) rows: Vec<Row>,
    pub(crate) row_offsets: Vec<i32>,
    pub(crate) row_init: Vec<i32>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// PackedABuffers for calls on the calling thread.
    pub fn new() -> Self {
        Self::with_threads(1)
    }

    /// PackedABuffers for calls that may use up to `threads` threads of the current rayon pool.
    ///
    /// Fewer are used where the work is too small to be shared, and one without the feature
    /// `rayon`. Calls from outside the pool find its threads later than calls from one of its threads do,
    /// and share less; `ThreadPool::install`, around all that a model does, is how to be one of them.
    pub fn with_threads(threads: usize) -> Self {
        let threads = if cfg!(feature = "rayon") { threads.max(1) } else { 1 };
        let workers = core::iter::repeat_with(Worker::default).take(threads).collect();
        Self { shared: PackedABuffers::default(), codes: Vec::new(), laid_out: Vec::new(), workers }
    }

    /// The most threads a call uses.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Workers for as many products of 8-bit codes as these numbers, multiplied, which may not fit.
    pub(crate) fn workers_for(&self, kernel: Kernel, factors: &[usize]) -> usize {
        let products = factors.iter().fold(1, |all: usize, factor| all.saturating_mul(*factor));
        let each = match kernel {
            Kernel::SCALAR => SCALAR_PRODUCTS_PER_THREAD,
            _ if in_pool() => PRODUCTS_PER_THREAD,
            _ => PRODUCTS_PER_THREAD_FROM_OUTSIDE,
        };
        self.threads().min(products / each).max(1)
    }

    pub(crate) fn take_error(&mut self) -> Result<(), NonFinite> {
        let errors = self.workers.iter_mut().filter_map(|worker| worker.error.take());
        errors.min_by_key(|error| error.index).map_or(Ok(()), Err)
    }
}

/// The fastest kernel does this many products in 6 to 12 µs from the cache. A thread of the pool that
/// still looks for work, as it does for about 20 µs after the last, halves the time even of so little; one
/// that sleeps comes too late, and waking it takes 8 µs. With two threads, one row times 2.4 million codes
/// takes 17 instead of 29 µs in the first case, 29 to 32 in the second.
const PRODUCTS_PER_THREAD: usize = 1 << 20;

/// The same for loops without vectors, which take about 100 µs for them, whoever calls.
const SCALAR_PRODUCTS_PER_THREAD: usize = 1 << 18;

/// A caller outside the pool hands everything over and waits, which takes 5 µs more if threads look for
/// work, and 15 to 60 if they sleep. So many products take 40 to 80.
const PRODUCTS_PER_THREAD_FROM_OUTSIDE: usize = 1 << 23;

/// Makes a buffer long enough; what is in it is unspecified.
pub(crate) fn grown<T: Clone>(buffer: &mut Vec<T>, len: usize, filler: T) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, filler);
    }
    &mut buffer[..len]
}
