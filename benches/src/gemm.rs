//! Linear layers: integer products of this crate beside those of others, and beside floats.
//!
//! Weights of the largest shape are cycled through, so that each call reads them from memory; those
//! of floats are larger than the caches by themselves. Burn's `flex` stands beside this crate in
//! `peers/burn`, a package of its own: it brings more crates than all others together.

use crate::blocks;
use crate::data::{self, Draw};
use crate::limits::{self, Limits};
use crate::measure::{Report, Subject};
use quant::kernel::{
    Activations, BitWidth, Codes, Epilogue, Kernel, Output, PackedWeights, Scratch, Weights,
};
use quant::scheme::{Axis, CodeRange, DynamicQuantization, Granularity, QuantParams, Quantization};
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use std::rc::Rc;

/// `m`, `k`, `n`.
const SHAPES: [(usize, usize, usize); 11] = [
    (512, 512, 512),
    (1, 768, 3072),
    (8, 768, 3072),
    (32, 768, 3072),
    (128, 768, 3072),
    (1, 3072, 768),
    (8, 3072, 768),
    (32, 3072, 768),
    (128, 3072, 768),
    (1, 4096, 4096),
    (128, 384, 1536),
];

/// Weights that are cycled through, so that those of the largest shape come from memory.
const FLUSH_BYTES: usize = 160 << 20;

/// Where at least so many rows share the weights, instructions are what takes time.
const COMPUTE_BOUND: usize = 8;

pub(crate) fn run(report: &Report) {
    let limits = limits::run(report);
    let filter = std::env::var("BENCH_SHAPE").unwrap_or_default();
    for threads in [1, 2] {
        if filter.is_empty() || filter == "blocks" {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let limits = Limits::for_threads(&limits, threads);
            pool.install(|| blocks::run(report, threads, limits));
        }
    }
    for draw in Draw::ALL {
        for (m, k, n) in SHAPES {
            for threads in [1, 2] {
                let case = format!("{m}x{k}x{n} {}", draw.name());
                if !case.starts_with(&filter) {
                    continue;
                }
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let limits = Limits::for_threads(&limits, threads);
                pool.install(|| shape(report, &case, draw, (m, k, n), threads, limits));
            }
        }
    }
}

/// Packing the weights of a layer, which is done once when it is loaded.
pub(crate) fn pack(report: &Report) {
    let (k, n) = (768, 3072);
    for draw in Draw::ALL {
        let (w8, w4) = (data::weights(draw, n, k, 8, 1), data::weights(draw, n, k, 4, 1));
        let mut subjects = Vec::new();
        for kernel in kernels() {
            for (data, four) in [(&w8, false), (&w4, true)] {
                let name = format!("pack {} {}", if four { "int4" } else { "int8" }, kernel.name());
                let run = move || drop(packed(kernel, data, (k, n), four, false));
                subjects.push(Subject::new(name, run).work("gcodes_per_s", (n * k) as f64));
            }
        }
        report.rows("pack", &format!("{k}x{n} {}", draw.name()), 1, 9, &mut subjects);
    }
}

/// The kernels to time: `QUANT_KERNEL`, or the fastest and the one most machines have.
pub(crate) fn kernels() -> Vec<Kernel> {
    let mut kernels = vec![Kernel::selected().unwrap()];
    if std::env::var_os("QUANT_KERNEL").is_none() {
        kernels.extend(Kernel::named("avx2").ok().filter(|avx2| *avx2 != kernels[0]));
    }
    kernels
}

fn packed(
    kernel: Kernel,
    data: &data::WeightData,
    (k, n): (usize, usize),
    four: bool,
    floats: bool,
) -> PackedWeights {
    let mut bytes = Vec::new();
    let codes = if four {
        for row in data.codes.chunks(k) {
            let mut packed = vec![0; k.div_ceil(2)];
            kernel.pack(BitWidth::Four, row, &mut packed);
            bytes.extend(packed);
        }
        Codes::Packed(BitWidth::Four, &bytes)
    } else {
        Codes::Bytes(&data.codes)
    };
    let weights = Weights {
        n,
        k,
        codes,
        granularity: Granularity::PerChannel(Axis::FIRST),
        scales: &data.scales,
        zero_points: &[],
        minimums: &[],
    };
    let pack = if floats { PackedWeights::for_floats } else { PackedWeights::new };
    pack(kernel, &weights).unwrap()
}

/// Given parameters for all rows.
fn fixed() -> Quantization {
    let params = QuantParams::new(0.05, 0).expect("a positive normal scale");
    Quantization { params, codes: CodeRange::new(-127, 127).expect("some codes") }
}

/// Rules 1 to 3, 6, 7 and 11 as they are written, with sums in i64: what a mode must give, bit by
/// bit.
fn reference(mode: Mode, x: &[f32], data: &data::WeightData, k: usize) -> Vec<f32> {
    let row = |x| match mode {
        Mode::WeightOnly => float_row(x, data),
        _ => integer_row(mode, x, data),
    };
    x.chunks(k).flat_map(row).collect()
}

fn integer_row(mode: Mode, x: &[f32], data: &data::WeightData) -> Vec<f32> {
    let (scale, zero, range) = match mode {
        Mode::Static => (fixed().params.scale(), 0.0, (-127.0, 127.0)),
        _ => {
            let (lo, hi) = x.iter().fold((0f32, 0f32), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
            let exact = (f64::from(hi) - f64::from(lo)) / 255.0;
            let zero = (-128.0 - f64::from(lo) / exact).round_ties_even();
            (exact as f32, zero.clamp(-128.0, 127.0), (-128.0, 127.0))
        }
    };
    let code = |v: &f32| (f64::from((v / scale).round_ties_even()) + zero).clamp(range.0, range.1);
    let codes: Vec<i64> = x.iter().map(|v| code(v) as i64 - zero as i64).collect();
    let rows = data.codes.chunks(x.len()).zip(&data.scales);
    rows.map(|(row, weight_scale)| {
        let products = row.iter().zip(&codes).map(|(w, x)| i64::from(*w) * x);
        products.sum::<i64>() as f32 * (scale * weight_scale)
    })
    .collect()
}

fn float_row(x: &[f32], data: &data::WeightData) -> Vec<f32> {
    let rows = data.codes.chunks(x.len()).zip(&data.scales);
    rows.map(|(row, scale)| {
        row.iter().zip(x).fold(0.0, |p, (w, x)| x.mul_add(f32::from(*w), p)) * scale
    })
    .collect()
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn shape(
    report: &Report,
    case: &str,
    draw: Draw,
    (m, k, n): (usize, usize, usize),
    threads: usize,
    limits: &Limits,
) {
    let gops = 2.0 * (m * n * k) as f64;
    let (w8, w4) = (data::weights(draw, n, k, 8, 1), data::weights(draw, n, k, 4, 1));
    let x = data::activations(draw, m, k, 2);
    let copies = if m == 1 && n * k >= 1 << 24 { FLUSH_BYTES / (n * k) } else { 1 };
    let from_memory = copies > 1;
    let references: Vec<_> = [(&w8, false), (&w4, true)]
        .into_iter()
        .flat_map(|(data, four)| MODES.map(|mode| (mode, four, reference(mode, &x, data, k))))
        .collect();
    let expected = |mode: Mode, four: bool| {
        let of = references.iter().find(|of| of.0 == mode && of.1 == four);
        of.map_or(&[][..], |of| &of.2[..])
    };
    let mut subjects = Vec::new();
    for kernel in kernels() {
        for (data, four) in [(&w8, false), (&w4, true)] {
            let copies = copies.max(1) * if four { 2 } else { 1 };
            let weights = [false, true].map(|floats| {
                let weights = packed(kernel, data, (k, n), four, floats);
                Rc::<[_]>::from(vec![weights; copies])
            });
            for mode in MODES {
                let weights = &weights[usize::from(mode == Mode::WeightOnly)];
                let mut layer = Layer {
                    kernel,
                    weights: Rc::clone(weights),
                    x: &x,
                    m,
                    out: vec![0.0; m * n],
                    scratch: Scratch::with_threads(threads),
                    mode,
                    call: 0,
                };
                layer.run();
                // Weight-only layers have no integer sums; the tests know their bits.
                let exact = same_bits(&layer.out, expected(mode, four));
                let name = format!("quant {} {}", mode.name(four), kernel.name());
                let mut subject = Subject::new(name, move || layer.run()).work("gops", gops);
                let peak = limits.of(kernel.name(), draw == Draw::Full);
                if let (true, false, Some(peak)) = (m >= COMPUTE_BOUND, four, peak)
                    && mode != Mode::WeightOnly
                {
                    subject = subject.limit("of_instructions", gops / peak);
                }
                if from_memory {
                    let bytes = n * k / if four { 2 } else { 1 };
                    subject = subject.limit("of_read", bytes as f64 / limits.read);
                }
                subjects.push(subject.exact(exact));
            }
        }
    }
    rten(&mut subjects, &w8, &x, (m, k, n), copies.max(1));
    floats(&mut subjects, &w8, &x, (m, k, n), threads);
    #[cfg(feature = "candle")]
    if crate::candle::uses(threads) {
        crate::candle::subjects(&mut subjects, &w8, &x, (m, k, n), copies.max(1));
    }
    report.rows("gemm", case, threads, 15, &mut subjects);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Dynamic,
    Static,
    WeightOnly,
}

const MODES: [Mode; 3] = [Mode::Dynamic, Mode::Static, Mode::WeightOnly];

impl Mode {
    fn name(self, four: bool) -> &'static str {
        match (self, four) {
            (Self::Dynamic, false) => "int8 dynamic",
            (Self::Dynamic, true) => "w4a8 dynamic",
            (Self::Static, false) => "int8 static",
            (Self::Static, true) => "w4a8 static",
            (Self::WeightOnly, false) => "int8 weight-only",
            (Self::WeightOnly, true) => "int4 weight-only",
        }
    }
}

/// A layer whose weights are cycled through.
struct Layer<'a> {
    kernel: Kernel,
    weights: Rc<[PackedWeights]>,
    x: &'a [f32],
    m: usize,
    out: Vec<f32>,
    scratch: Scratch,
    mode: Mode,
    call: usize,
}

impl Layer<'_> {
    fn run(&mut self) {
        self.call = (self.call + 1) % self.weights.len();
        let Self { kernel, weights, x, m, out, scratch, mode, call } = self;
        let (weights, epilogue, output) = (&weights[*call], Epilogue::default(), Output::F32(out));
        let done = match mode {
            Mode::Dynamic => kernel.linear(
                weights,
                Activations::Dynamic {
                    values: x,
                    m: *m,
                    quantization: DynamicQuantization::default(),
                },
                &epilogue,
                output,
                scratch,
            ),
            Mode::Static => kernel.linear(
                weights,
                Activations::Static { values: x, m: *m, quantization: fixed() },
                &epilogue,
                output,
                scratch,
            ),
            Mode::WeightOnly => kernel.linear(
                weights,
                Activations::Float { values: x, m: *m },
                &epilogue,
                output,
                scratch,
            ),
        };
        done.expect("the layer fits its input");
    }
}

fn rten<'a>(
    subjects: &mut Vec<Subject<'a>>,
    data: &data::WeightData,
    x: &[f32],
    (m, k, n): (usize, usize, usize),
    copies: usize,
) {
    let gops = 2.0 * (m * n * k) as f64;
    let gemm = GemmExecutor::<u8, i8, i32>::new();
    let largest = x.iter().fold(0f32, |a, v| a.max(v.abs()));
    let codes: Vec<u8> = x.iter().map(|v| ((v / largest).mul_add(127.0, 128.0)) as u8).collect();
    let a = NdTensor::from_data([m, k], codes.clone());
    let b = NdTensor::from_data([n, k], data.codes.clone());
    let packed: Vec<_> = (0..copies).map(|_| gemm.prepack_b(b.view().transposed())).collect();
    let mut out = vec![0i32; m * n];
    let mut call = 0;
    let run = move |out: &mut [i32], call: usize| {
        gemm.gemm(
            out,
            GemmInputA::Unpacked(a.view()),
            GemmInputB::Packed(&packed[call]),
            GemmOptions { beta: 0, bias: None::<BiasVector<'_, i32>>, ..Default::default() },
        )
        .unwrap();
    };
    run(&mut out, 0);
    let exact = codes.chunks(k).zip(out.chunks(n)).all(|(x, y)| {
        data.codes.chunks(k).zip(y).all(|(w, y)| {
            let sum: i64 = w.iter().zip(x).map(|(w, x)| i64::from(*w) * i64::from(*x)).sum();
            sum == i64::from(*y)
        })
    });
    subjects.push(
        Subject::new("rten-gemm u8×i8 sums", move || {
            call = (call + 1) % copies;
            run(&mut out, call);
        })
        .work("gops", gops)
        .exact(exact),
    );
}

fn floats<'a>(
    subjects: &mut Vec<Subject<'a>>,
    data: &data::WeightData,
    x: &[f32],
    (m, k, n): (usize, usize, usize),
    threads: usize,
) {
    let gops = 2.0 * (m * n * k) as f64;
    let executor = GemmExecutor::<f32, f32, f32>::new();
    let a = NdTensor::from_data([m, k], x.to_vec());
    let b = NdTensor::from_data([n, k], data.values.clone());
    let packed = executor.prepack_b(b.view().transposed());
    let mut out = vec![0f32; m * n];
    subjects.push(
        Subject::new("quant f32 (rten-gemm prepacked)", move || {
            executor
                .gemm(
                    &mut out,
                    GemmInputA::Unpacked(a.view()),
                    GemmInputB::Packed(&packed),
                    GemmOptions { beta: 0.0, ..Default::default() },
                )
                .unwrap();
        })
        .work("gops", gops),
    );
    let (x1, w1, mut out1) = (x.to_vec(), data.values.clone(), vec![0f32; m * n]);
    let parallel = match threads {
        1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    subjects.push(
        Subject::new("gemm f32", move || {
            let (out, x, w) = (out1.as_mut_ptr(), x1.as_ptr(), w1.as_ptr());
            let (k, n) = (k as isize, n as isize);
            // SAFETY: the pointers are to m·n, m·k and n·k elements, and the strides stay within.
            unsafe {
                gemm::gemm(
                    m, n as usize, k as usize, out, 1, n, false, x, 1, k, w, k, 1, 0.0, 1.0, false,
                    false, false, parallel,
                );
            }
        })
        .work("gops", gops),
    );
    if threads == 1 {
        let (x, w, mut out) = (x.to_vec(), data.values.clone(), vec![0f32; m * n]);
        subjects.push(
            Subject::new("matrixmultiply f32", move || {
                let (k, n) = (k as isize, n as isize);
                let (out, x, w) = (out.as_mut_ptr(), x.as_ptr(), w.as_ptr());
                // SAFETY: as above.
                unsafe {
                    matrixmultiply::sgemm(
                        m, k as usize, n as usize, 1.0, x, k, 1, w, 1, k, 0.0, out, n, 1,
                    );
                }
            })
            .work("gops", gops),
        );
    }
}
