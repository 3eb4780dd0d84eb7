//! The kernels of this machine, for tests that run on each of them.

use quant::kernel::{BitWidth, Kernel};
use quant::scheme::{CodeRange, QuantParams, Quantization};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::LazyLock;

/// Every kernel this machine has; says which ones are skipped.
pub fn kernels() -> Vec<Kernel> {
    let mut found = Vec::new();
    for name in Kernel::NAMES {
        match Kernel::named(name) {
            Ok(kernel) => found.push(kernel),
            Err(why) => eprintln!("SKIPPED: {why}"),
        }
    }
    found
}

/// Runs on a thread of a pool of three, where products share more of their work than outside. In WebAssembly, which
/// has no threads here, it runs on the calling one, and says so.
pub fn in_pool<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    static POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
        if cfg!(target_family = "wasm") {
            eprintln!("SKIPPED: threads, which this target does not have");
            return None;
        }
        Some(ThreadPoolBuilder::new().num_threads(3).build().expect("three threads"))
    });
    match &*POOL {
        Some(pool) => pool.install(run),
        None => run(),
    }
}

/// Rows of `k` codes, each packed on its own.
pub fn packed_rows(kernel: Kernel, width: BitWidth, codes: &[i8], k: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in codes.chunks(k.max(1)) {
        let start = bytes.len();
        bytes.resize(start + width.row_bytes(k), 0);
        kernel.pack(width, row, &mut bytes[start..]);
    }
    bytes
}

/// A quantization whose parts are known to be valid.
pub fn quantization(scale: f32, zero_point: i8, (min, max): (i8, i8)) -> Quantization {
    let params = QuantParams::new(scale, zero_point).expect("a positive normal scale");
    Quantization { params, codes: CodeRange::new(min, max).expect("some codes") }
}
