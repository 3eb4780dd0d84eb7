//! How much memory something takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system allocator, with counts of the bytes in use and of their maximum.
///
/// It is made the `#[global_allocator]` of a binary with one test only, since others would allocate
/// at the same time.
#[derive(Debug)]
pub struct Counting;

impl Counting {
    /// The maximum of the memory that is in use while `f` runs, and was not before.
    pub fn peak<T>(f: impl FnOnce() -> T) -> usize {
        let before = IN_USE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        drop(f());
        PEAK.load(Ordering::Relaxed) - before
    }
}

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc`, so from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    /// Counts a growing block once, since large blocks grow in place by new pages.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let now = IN_USE.fetch_add(size, Ordering::Relaxed) + size - layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from the system's allocator, with this layout; the size is the
        // caller's obligation.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
