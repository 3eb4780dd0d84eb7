//! An int8 and an int4 product beside the naive loop: equal sums, and how fast each is.
//!
//! ```text
//! cargo run --release -p quant-kernels --example gemm
//! ```

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use quant_kernels::scheme::{Axis, Granularity};
use quant_kernels::{
    Activations, BitWidth, Codes, Epilogue, Kernel, Output, PackedWeights, Scratch, Weights,
};

const M: usize = 64;
const N: usize = 512;
const K: usize = 768;

fn main() -> Result<(), Box<dyn Error>> {
    let kernel = Kernel::selected()?;
    println!("{M} x {K} times {K} x {N}, kernel {kernel}");
    let mut random = 1;
    let x = codes(&mut random, M * K, 8);

    let w = codes(&mut random, N * K, 8);
    product(kernel, "int8", Codes::Bytes(&w), &x, &w)?;

    let w = codes(&mut random, N * K, 4);
    let mut packed = vec![0; N * K / 2];
    kernel.pack(BitWidth::Four, &w, &mut packed);
    product(kernel, "int4", Codes::Packed(BitWidth::Four, &packed), &x, &w)
}

/// Multiplies `x` with `codes`, which are those of `w`, and prints what came out.
fn product(
    kernel: Kernel,
    name: &str,
    codes: Codes<'_>,
    x: &[i8],
    w: &[i8],
) -> Result<(), Box<dyn Error>> {
    let weights = Weights {
        n: N,
        k: K,
        codes,
        granularity: Granularity::PerChannel(Axis::FIRST),
        scales: &[0.01; N],
        zero_points: &[],
        minimums: &[],
    };
    let weights = PackedWeights::new(kernel, &weights)?;
    let (mut sums, mut scratch) = (vec![0; M * N], Scratch::new());
    let mut run = || {
        let x = Activations::Codes { codes: x, m: M, scales: &[0.1], zero_points: &[] };
        let output = Output::I32(&mut sums);
        kernel.linear(&weights, x, &Epilogue::default(), output, &mut scratch)
    };
    run()?;
    let start = Instant::now();
    for _ in 0..50 {
        run()?;
    }
    let fast = gops(start, 50);

    let start = Instant::now();
    let expected = black_box(naive(x, w));
    let slow = gops(start, 1);
    let verdict = if sums == expected { "equal" } else { "DIFFERENT" };
    println!("{name}: {verdict} to the naive loop; {fast:.1} instead of {slow:.1} GOP/s");
    if sums == expected { Ok(()) } else { Err("the sums differ".into()) }
}

fn naive(x: &[i8], w: &[i8]) -> Vec<i32> {
    let dot =
        |x: &[i8], w: &[i8]| x.iter().zip(w).map(|(x, w)| i32::from(*x) * i32::from(*w)).sum();
    x.chunks(K).flat_map(|x| w.chunks(K).map(move |w| dot(x, w))).collect()
}

fn gops(start: Instant, runs: usize) -> f64 {
    // The product of all is too large for the usize of 32-bit targets.
    2.0 * runs as f64 * (M * N * K) as f64 / start.elapsed().as_secs_f64() / 1e9
}

/// Codes of so many bits, all of which occur.
fn codes(random: &mut u64, count: usize, bits: u32) -> Vec<i8> {
    let next = || {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*random >> 33) as i8 >> (8 - bits)
    };
    std::iter::repeat_with(next).take(count).collect()
}
