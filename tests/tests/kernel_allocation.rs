//! Once its scratch has grown, a call allocates nothing, on one thread or two.

use quant::kernel::{
    Activations, AttentionScratch, BitWidth, Codes, ConvShape, Epilogue, Images, Kernel,
    KeyValueCache, KeyValueShape, Output, PackedConv, PackedWeights, Rope, RopeAngles, RopeOptions,
    Scratch, Weights,
};
use quant::scheme::{Axis, DynamicQuantization, Granularity, KeyValueScheme};
use std::alloc::{GlobalAlloc, Layout, System};
#[cfg(not(target_family = "wasm"))]
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::kernels::kernels;
use tests::random::Random;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's obligations are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's obligations are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test only: others in this process would be counted too.
#[test]
fn nothing_is_allocated_in_steady_state() {
    for kernel in kernels() {
        for threads in [1, 2] {
            assert_eq!(on_threads(threads, kernel), Some(0), "{kernel} {threads}");
        }
    }
}

/// Within a pool: a call from outside would be queued, which allocates now and then.
#[cfg(not(target_family = "wasm"))]
fn on_threads(threads: usize, kernel: Kernel) -> Option<usize> {
    static POOL: LazyLock<rayon::ThreadPool> =
        LazyLock::new(|| rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    POOL.install(|| allocations(kernel, threads))
}

#[cfg(target_family = "wasm")]
fn on_threads(threads: usize, kernel: Kernel) -> Option<usize> {
    if threads > 1 {
        println!("SKIPPED two threads of {kernel}: this target has one");
        return Some(0);
    }
    allocations(kernel, threads)
}

/// What a round of calls needs, every round needs; the test harness may allocate beside one of them.
fn allocations(kernel: Kernel, threads: usize) -> Option<usize> {
    let mut random = Random(10);
    // Enough products for two threads in each call.
    let (m, n, k) = (66, 700, 260);
    let codes: Vec<i8> = (0..n * k).map(|_| random.code()).collect();
    let scales = vec![0.01; n];
    let x: Vec<f32> = (0..m * k).map(|_| random.normal()).collect();
    let mut out = vec![0.0; m * n];
    let mut four = vec![0; n * k / 2];
    for (codes, packed) in codes.chunks(k).zip(four.chunks_mut(k / 2)) {
        kernel.pack(BitWidth::Four, codes, packed);
    }
    let granularity = Granularity::PerChannel(Axis::FIRST);
    let weights = |codes| Weights {
        n,
        k,
        codes,
        granularity,
        scales: &scales,
        zero_points: &[],
        minimums: &[],
    };
    let packed = [Codes::Bytes(&codes), Codes::Packed(BitWidth::Four, &four)]
        .map(|codes| PackedWeights::new(kernel, &weights(codes)).unwrap());
    let shape = ConvShape {
        in_channels: 20,
        out_channels: n,
        kernel_size: [1, 13],
        stride: [1, 1],
        padding: [[0, 0], [6, 6]],
        dilation: [1, 1],
        groups: 1,
    };
    let conv = PackedConv::new(kernel, shape, &weights(Codes::Bytes(&codes))).unwrap();
    let mut scratch = Scratch::with_threads(threads);
    let shape = KeyValueShape { heads: 3, head_dim: 64, capacity: 300 };
    let mut caches = KeyValueScheme::ALL.map(|scheme| KeyValueCache::new(shape, scheme).unwrap());
    let mut attention = AttentionScratch::with_threads(threads);
    let rope = Rope::new(RopeOptions::new(64)).unwrap();
    let mut angles = RopeAngles::default();
    let mut queries = vec![0.5; 40 * 9 * 64];
    let mut round = || {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let (epilogue, dynamic) = (Epilogue::default(), DynamicQuantization::default());
        for weights in &packed {
            let output = Output::F32(&mut out);
            kernel
                .linear(
                    weights,
                    Activations::Dynamic { values: &x, m, quantization: dynamic },
                    &epilogue,
                    output,
                    &mut scratch,
                )
                .unwrap();
            let output = Output::F32(&mut out);
            kernel
                .linear(
                    weights,
                    Activations::Float { values: &x, m },
                    &epilogue,
                    output,
                    &mut scratch,
                )
                .unwrap();
        }
        let images =
            Images::Dynamic { values: &x[..20 * m], batch: 1, size: [1, m], quantization: dynamic };
        let output = Output::F32(&mut out);
        kernel.conv2d(&conv, images, &epilogue, output, &mut scratch).unwrap();
        rope.angles(&[7; 40], &mut angles).unwrap();
        kernel.rope(&mut queries, 9, &rope, &angles).unwrap();
        for cache in &mut caches {
            cache.clear();
            let tokens = 40 * 3 * 64;
            for _ in 0..7 {
                cache.append(kernel, &x[..tokens], &x[..tokens]).unwrap();
            }
            let out = &mut out[..queries.len()];
            kernel.attention(&queries, 9, cache, out, &mut attention).unwrap();
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    round();
    (0..8).map(|_| round()).min()
}
