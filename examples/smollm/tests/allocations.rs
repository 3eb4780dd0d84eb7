//! Decoding allocates nothing.

mod tiny;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use quant::kernel::scheme::KeyValueScheme;
use smollm::{Buffers, Logits, Step};
use tiny::{SCHEMES, prompt, tiny};

/// Counts allocations.
struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn decoding_allocates_nothing() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for scheme in SCHEMES {
        for keys_values in KeyValueScheme::ALL {
            let model = tiny(scheme, keys_values);
            let (mut sequence, mut buffers) = (model.sequence(40).unwrap(), Buffers::default());
            let tokens = prompt(1, 8);
            let mut step = |tokens: &[u32]| {
                let mut steps = [Step { tokens, sequence: &mut sequence }];
                model.forward(&mut steps, Logits::Last, &mut buffers).unwrap();
            };
            pool.install(|| {
                step(&tokens);
                step(&tokens[..1]);
                let before = COUNT.load(Ordering::Relaxed);
                for token in &tokens {
                    step(&[*token]);
                }
                let allocated = COUNT.load(Ordering::Relaxed) - before;
                assert_eq!(allocated, 0, "{scheme:?} {keys_values}");
            });
        }
    }
}
