//! Work shared by the threads of a rayon pool, or done by the calling thread without the feature `rayon`.
//!
//! Imports nothing of this crate. Start with [`fork`].

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Distributes `0 .. all` in shares, one at a time, to the workers that ask for the next.
///
/// Equal shares for all workers would make a call as slow as its slowest thread, which may have woken late
/// or lost its core for a while; now the others take more shares meanwhile. The longer shares come first,
/// so that nobody waits for a longer one at the end.
pub(crate) struct Shares {
    all: usize,
    parts: usize,
    next: AtomicUsize,
}

/// Shares per worker. A worker waits for at most one share of another.
const SHARES: usize = 6;

impl Shares {
    pub(crate) fn new(all: usize, workers: usize) -> Self {
        let parts = if workers == 1 { 1 } else { all.min(workers * SHARES) };
        Self { all, parts, next: AtomicUsize::new(0) }
    }

    pub(crate) fn next(&self) -> Option<Range<usize>> {
        // Relaxed, because threads share nothing else through this number.
        let part = self.next.fetch_add(1, Ordering::Relaxed);
        if part >= self.parts {
            return None;
        }
        let (each, longer) = (self.all / self.parts, self.all % self.parts);
        let start = |part: usize| part * each + part.min(longer);
        Some(start(part)..start(part + 1))
    }
}

/// Runs `work` with each worker, on as many threads.
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

/// Whether the calling thread belongs to a pool.
#[cfg(feature = "rayon")]
pub(crate) fn in_pool() -> bool {
    rayon::current_thread_index().is_some()
}

/// Whether the calling thread belongs to a pool, which does not exist.
#[cfg(not(feature = "rayon"))]
pub(crate) fn in_pool() -> bool {
    false
}

/// Runs both closures, in parallel if another thread is idle.
#[cfg(feature = "rayon")]
pub(crate) fn both(left: impl FnOnce() + Send, right: impl FnOnce() + Send) {
    rayon::join(left, right);
}

/// Runs both closures.
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
