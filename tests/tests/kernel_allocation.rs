//! Once its scratch has grown, a call allocates nothing.

use quant::kernel::{
    Codes, ConvShape, Dynamic, Epilogue, Images, Output, PackedConv, PackedWeights, Scratch,
    Sharing, SubByte, Weights,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::kernels::{Random, kernels};

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
    let mut random = Random(10);
    let (m, n, k) = (33, 70, 130);
    let codes: Vec<i8> = (0..n * k).map(|_| random.code()).collect();
    let scales = vec![0.01; n];
    let x: Vec<f32> = (0..m * k).map(|_| random.normal()).collect();
    let mut out = vec![0.0; m * n];
    for kernel in kernels() {
        let mut four = vec![0; n * k / 2];
        for (codes, packed) in codes.chunks(k).zip(four.chunks_mut(k / 2)) {
            kernel.pack(SubByte::Four, codes, packed);
        }
        let pack = |codes| {
            let sharing = Sharing::Channel;
            let weights = Weights { n, k, codes, sharing, scales: &scales, zero_points: &[] };
            PackedWeights::new(kernel, &weights).unwrap()
        };
        let packed = [pack(Codes::Bytes(&codes)), pack(Codes::Packed(SubByte::Four, &four))];
        let shape = ConvShape {
            in_channels: 10,
            out_channels: 70,
            window: [1, 13],
            stride: [1, 1],
            padding: [0, 6],
            dilation: [1, 1],
            groups: 1,
        };
        let sharing = Sharing::Channel;
        let codes = Codes::Bytes(&codes);
        let weights = Weights { n, k, codes, sharing, scales: &scales, zero_points: &[] };
        let conv = PackedConv::new(kernel, shape, &weights).unwrap();
        let mut scratch = Scratch::new();
        let mut round = || {
            let epilogue = Epilogue::default();
            let dynamic = Dynamic::default();
            for weights in &packed {
                let output = Output::F32(&mut out);
                kernel
                    .linear_dynamic(weights, &x, m, dynamic, &epilogue, output, &mut scratch)
                    .unwrap();
                let output = Output::F32(&mut out);
                kernel.linear_weight_only(weights, &x, m, &epilogue, output, &mut scratch).unwrap();
            }
            let images = Images { values: &x[..10 * 33], batch: 1, size: [1, 33] };
            let output = Output::F32(&mut out[..70 * 33]);
            kernel.conv2d_dynamic(&conv, images, dynamic, &epilogue, output, &mut scratch).unwrap();
        };
        round();
        let mut allocated = || {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            round();
            ALLOCATIONS.load(Ordering::Relaxed) - before
        };
        // What a round needs, every round needs; the test harness may allocate beside one of them.
        let least = (0..8).map(|_| allocated()).min();
        assert_eq!(least, Some(0), "{kernel}");
    }
}
