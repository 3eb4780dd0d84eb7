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

/// Runs on a thread of a pool of three, where products share more of their work than outside.
pub fn in_pool<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    static POOL: LazyLock<ThreadPool> =
        LazyLock::new(|| ThreadPoolBuilder::new().num_threads(3).build().expect("three threads"));
    POOL.install(run)
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

/// A small seeded generator (splitmix64), the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A float in `-1 .. 1`.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Roughly normal, mean 0, deviation 1.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() * 0.5
    }

    /// Any code.
    pub fn code(&mut self) -> i8 {
        self.bits() as i8
    }

    /// A code that is often an extreme one.
    pub fn extreme(&mut self) -> i8 {
        [-128, 127, -128, 127, -127, 0, 1, -1][self.below(8)]
    }
}

/// A quantization whose parts are known to be valid.
pub fn quantization(scale: f32, zero_point: i8, (min, max): (i8, i8)) -> Quantization {
    let params = QuantParams::new(scale, zero_point).expect("a positive normal scale");
    Quantization { params, codes: CodeRange::new(min, max).expect("some codes") }
}
