//! Room to work in, and how many threads use it.

use super::dispatch::Kernel;
use super::isa::Line;
use super::rows::Row;
use crate::scheme::NonFinite;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Buffers that calls share, so that none of them allocates once they have grown to the largest.
///
/// It belongs to one thread at a time; [`Scratch::with_threads`] says how many threads a call may
/// use. The outputs do not depend on that number.
#[derive(Debug)]
pub struct Scratch {
    pub(super) shared: Room,
    /// An image of a convolution, and the same in another order.
    pub(super) codes: Vec<i8>,
    pub(super) laid_out: Vec<u8>,
    pub(super) workers: Vec<Worker>,
}

/// What one thread needs for itself.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) room: Room,
    pub(super) unpacked: Vec<Line>,
    pub(super) floats: Vec<f32>,
    pub(super) error: Option<NonFinite>,
}

/// Prepared rows.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) lines: Vec<Line>,
    pub(super) rows: Vec<Row>,
    pub(super) sums: Vec<i32>,
    pub(super) starts: Vec<i32>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// Room for calls on the calling thread.
    pub fn new() -> Self {
        Self::with_threads(1)
    }

    /// Room for calls that may use up to `threads` threads of the current rayon pool.
    ///
    /// Fewer are used where the work is too small to be shared, and one without the feature
    /// `rayon`. Calls from outside the pool find its threads later than calls from one of its threads do,
    /// and share less; `ThreadPool::install`, around all that a model does, is how to be one of them.
    pub fn with_threads(threads: usize) -> Self {
        let threads = if cfg!(feature = "rayon") { threads.max(1) } else { 1 };
        let workers = core::iter::repeat_with(Worker::default).take(threads).collect();
        Self { shared: Room::default(), codes: Vec::new(), laid_out: Vec::new(), workers }
    }

    /// The most threads a call uses.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Workers for as many products of 8-bit codes as these numbers, multiplied, which may not fit.
    pub(super) fn workers_for(&self, kernel: Kernel, factors: &[usize]) -> usize {
        let products = factors.iter().fold(1, |all: usize, factor| all.saturating_mul(*factor));
        let each = match kernel {
            Kernel::SCALAR => SCALAR_PRODUCTS_PER_THREAD,
            _ if in_pool() => PRODUCTS_PER_THREAD,
            _ => PRODUCTS_PER_THREAD_FROM_OUTSIDE,
        };
        self.threads().min(products / each).max(1)
    }

    pub(super) fn take_error(&mut self) -> Result<(), NonFinite> {
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
pub(super) fn grown<T: Clone>(buffer: &mut Vec<T>, len: usize, filler: T) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, filler);
    }
    &mut buffer[..len]
}

/// Parts of `0 .. all`, handed out one by one to whoever asks next.
///
/// Equal parts would make a call as slow as its slowest thread, which may have been woken late or
/// have lost its core for a while; the other takes more parts meanwhile. Those that are one longer come
/// first: a longer one at the end is what the others would wait for.
pub(super) struct Shares {
    all: usize,
    parts: usize,
    next: AtomicUsize,
}

/// Parts per worker: the last one is what a worker may have to wait for.
const SHARES: usize = 6;

impl Shares {
    pub(super) fn new(all: usize, workers: usize) -> Self {
        let parts = if workers == 1 { 1 } else { all.min(workers * SHARES) };
        Self { all, parts, next: AtomicUsize::new(0) }
    }

    pub(super) fn next(&self) -> Option<Range<usize>> {
        // Nothing but the number itself is shared by way of it.
        let part = self.next.fetch_add(1, Ordering::Relaxed);
        if part >= self.parts {
            return None;
        }
        let (each, longer) = (self.all / self.parts, self.all % self.parts);
        let start = |part: usize| part * each + part.min(longer);
        Some(start(part)..start(part + 1))
    }
}

/// Runs `work` with each worker, on as many threads as there are workers.
pub(super) fn fork(workers: &mut [Worker], work: &(impl Fn(&mut Worker) + Sync)) {
    match workers {
        [] => {}
        [worker] => work(worker),
        _ => {
            let (left, right) = workers.split_at_mut(workers.len() / 2);
            both(|| fork(left, work), || fork(right, work));
        }
    }
}

/// Whether the caller is a thread of a pool.
#[cfg(feature = "rayon")]
fn in_pool() -> bool {
    rayon::current_thread_index().is_some()
}

/// There is no pool.
#[cfg(not(feature = "rayon"))]
fn in_pool() -> bool {
    false
}

/// Does both, at once if another thread has time.
#[cfg(feature = "rayon")]
pub(super) fn both(left: impl FnOnce() + Send, right: impl FnOnce() + Send) {
    rayon::join(left, right);
}

/// Does both.
#[cfg(not(feature = "rayon"))]
pub(super) fn both(left: impl FnOnce(), right: impl FnOnce()) {
    left();
    right();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_there_once_and_the_longer_ones_come_first() {
        for (all, workers) in [(0, 1), (1, 2), (5, 1), (16, 2), (43, 2), (1000, 3)] {
            let shares = Shares::new(all, workers);
            let (mut end, mut last) = (0, usize::MAX);
            while let Some(share) = shares.next() {
                assert_eq!(share.start, end);
                assert!(share.len() <= last);
                (end, last) = (share.end, share.len());
            }
            assert_eq!(end, all);
        }
    }
}
