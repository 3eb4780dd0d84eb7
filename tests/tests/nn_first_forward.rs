//! The first forward pass of a layer that several threads share: one packed weight stays.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::ArrayD;
use quant::{Module, Recipe};
use quant_nn::Linear;
use tests::arrays::{bits, random};

/// Counts the bytes that are allocated and not freed.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const N: usize = 256;
const THREADS: usize = 16;

fn layer(activations: &str) -> Linear {
    let recipe =
        Recipe::new().scheme("int8".parse().unwrap()).activations(activations.parse().unwrap());
    Linear::new(random(&[N, N], 1), None).unwrap().quantize(recipe).unwrap()
}

/// The outputs of all threads, which begin at once.
fn together(layer: &Linear, x: &ArrayD<f32>) -> Vec<Vec<u32>> {
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let forward = || {
            barrier.wait();
            bits(&layer.forward(x).unwrap())
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(forward)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// One test only: others in this process would be counted too.
#[test]
fn one_packed_weight_stays_of_the_first_forward_pass_of_many_threads() {
    let x = random(&[3, N], 2);
    for activations in ["dynamic", "float"] {
        // What is allocated once in the process is allocated here.
        let expected = together(&layer(activations), &x).remove(0);
        for _ in 0..8 {
            let layer = layer(activations);
            let before = BYTES.load(Ordering::Relaxed);
            let outputs = together(&layer, &x);
            assert!(outputs.iter().all(|output| *output == expected), "{activations}");
            drop(outputs);
            let kept = BYTES.load(Ordering::Relaxed) - before;
            // The codes of the packed weight are N² bytes; two packed weights would be twice as many.
            assert!((N * N..2 * N * N).contains(&kept), "{activations}: {kept} bytes stay");
        }
    }
}
