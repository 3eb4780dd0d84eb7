//! Work shared by the threads of a rayon pool; on the calling thread without the feature `rayon`.
//!
//! Imports nothing of this crate.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Parts of `0 .. all`, handed out one by one to whoever asks next.
///
/// Equal parts would make a call as slow as its slowest thread, which may have been woken late or
/// have lost its core for a while; the other takes more parts meanwhile. Those that are one longer come
/// first: a longer one at the end is what the others would wait for.
pub(crate) struct Shares {
    all: usize,
    parts: usize,
    next: AtomicUsize,
}

/// Parts per worker: the last one is what a worker may have to wait for.
const SHARES: usize = 6;

impl Shares {
    pub(crate) fn new(all: usize, workers: usize) -> Self {
        let parts = if workers == 1 { 1 } else { all.min(workers * SHARES) };
        Self { all, parts, next: AtomicUsize::new(0) }
    }

    pub(crate) fn next(&self) -> Option<Range<usize>> {
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
pub(crate) fn fork<W: Send>(workers: &mut [W], work: &(impl Fn(&mut W) + Sync)) {
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
pub(crate) fn in_pool() -> bool {
    rayon::current_thread_index().is_some()
}

/// There is no pool.
#[cfg(not(feature = "rayon"))]
pub(crate) fn in_pool() -> bool {
    false
}

/// Does both, at once if another thread has time.
#[cfg(feature = "rayon")]
pub(crate) fn both(left: impl FnOnce() + Send, right: impl FnOnce() + Send) {
    rayon::join(left, right);
}

/// Does both.
#[cfg(not(feature = "rayon"))]
pub(crate) fn both(left: impl FnOnce(), right: impl FnOnce()) {
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
