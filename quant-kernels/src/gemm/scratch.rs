//! Buffers for products, and the number of threads that use them.

use crate::dispatch::Kernel;
use crate::isa::Line;
use crate::pack::source::Row;
use crate::parallel::in_pool;
use crate::scheme::NonFinite;
use alloc::vec::Vec;

/// Buffers that calls reuse; once they have grown to the largest call, nothing is allocated.
///
/// A value belongs to one thread at a time. [`Scratch::with_threads`] limits the threads that a call may
/// use. Outputs do not depend on that number.
#[derive(Debug)]
pub struct Scratch {
    pub(crate) shared: PackedABuffers,
    /// The codes of an image, and the same laid out for the product.
    pub(crate) codes: Vec<i8>,
    pub(crate) laid_out: Vec<u8>,
    /// The products of a transposed convolution, and their sums.
    pub(crate) products: Vec<i32>,
    /// Packed rows of floats.
    pub(crate) floats: Vec<f32>,
    pub(crate) workers: Vec<Worker>,
}

/// The buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    pub(crate) packed_a: PackedABuffers,
    pub(crate) unpacked: Vec<Line>,
    pub(crate) accumulators: Vec<f32>,
    pub(crate) error: Option<NonFinite>,
}

/// Packed rows.
#[derive(Debug, Default)]
pub(crate) struct PackedABuffers {
    pub(crate) lines: Vec<Line>,
    pub(crate) rows: Vec<Row>,
    pub(crate) row_sums: Vec<i32>,
    pub(crate) row_init: Vec<i32>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// Buffers for calls that run on the calling thread alone.
    pub fn new() -> Self {
        Self::with_threads(1)
    }

    /// Buffers for calls that may use up to `threads` threads of the current rayon pool.
    ///
    /// A product that is too small uses fewer, and without the feature `rayon` every product uses one. Outside
    /// a pool each product costs 5–60 µs to hand over, so only large ones run in parallel; run the whole model
    /// in `ThreadPool::install` to avoid that.
    pub fn with_threads(threads: usize) -> Self {
        let threads = if cfg!(feature = "rayon") { threads.max(1) } else { 1 };
        let workers = core::iter::repeat_with(Worker::default).take(threads).collect();
        let shared = PackedABuffers::default();
        let (codes, laid_out, floats) = (Vec::new(), Vec::new(), Vec::new());
        Self { shared, codes, laid_out, products: Vec::new(), floats, workers }
    }

    /// The most threads that a call uses.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The workers for a product of these sizes, counted in 8-bit multiplications.
    pub(crate) fn workers_for(&self, kernel: Kernel, factors: &[usize]) -> usize {
        let products = factors.iter().fold(1, |all: usize, factor| all.saturating_mul(*factor));
        threads_for(kernel, products, self.threads())
    }

    pub(crate) fn take_error(&mut self) -> Result<(), NonFinite> {
        let errors = self.workers.iter_mut().filter_map(|worker| worker.error.take());
        errors.min_by_key(|error| error.index).map_or(Ok(()), Err)
    }
}

/// The fastest kernel does this many multiplications in 6 to 12 µs from the cache. A pool thread that is
/// still looking for work, as it does for about 20 µs after the last task, halves even so short a time; one
/// that sleeps comes too late, and takes 8 µs to wake. With two threads, one row times 2.4 million codes
/// takes 17 instead of 29 µs in the first case, 29 to 32 in the second.
const PRODUCTS_PER_THREAD: usize = 1 << 20;

/// The same without vectors: about 100 µs, inside a pool or outside.
const SCALAR_PRODUCTS_PER_THREAD: usize = 1 << 18;

/// A caller outside the pool hands over its whole product and waits. That adds 5 µs if pool threads are
/// looking for work, and 15 to 60 µs if they sleep; so many multiplications take 40 to 80 µs.
const PRODUCTS_PER_THREAD_FROM_OUTSIDE: usize = 1 << 23;

/// The threads for so many 8-bit multiplications, at most `most`.
pub(crate) fn threads_for(kernel: Kernel, products: usize, most: usize) -> usize {
    let each = if kernel == Kernel::SCALAR {
        SCALAR_PRODUCTS_PER_THREAD
    } else if in_pool() {
        PRODUCTS_PER_THREAD
    } else {
        PRODUCTS_PER_THREAD_FROM_OUTSIDE
    };
    most.min(products / each).max(1)
}

/// Grows a buffer to `len` elements, whose values are unspecified.
pub(crate) fn grown<T: Clone>(buffer: &mut Vec<T>, len: usize, filler: T) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, filler);
    }
    &mut buffer[..len]
}
