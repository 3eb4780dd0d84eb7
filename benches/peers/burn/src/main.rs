//! A linear layer of this crate beside Burn's CPU backend, `flex`: floats, and 8-bit weights and
//! activations, which `flex` dequantizes and multiplies as floats. One thread; JSON rows as those of
//! the other benches.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/burn/Cargo.toml
//! ```

#[path = "../../../src/data.rs"]
#[allow(dead_code)] // what the other benches draw
mod data;
#[path = "../../../src/measure.rs"]
#[allow(dead_code)]
mod measure;

use burn_tensor::quantization::QuantScheme;
use burn_tensor::{Device, Tensor, TensorData};
use data::Draw;
use measure::{Report, Subject};
use quant::kernel::{Activations, Codes, Epilogue, Kernel, Output, PackedWeights, Scratch, Weights};
use quant::scheme::{Axis, DynamicQuantization, Granularity};

/// `m`, `k`, `n`: as in the bench `gemm`.
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

fn main() {
    let report = Report::new(std::env::args().any(|argument| argument == "--json"));
    for draw in Draw::ALL {
        for shape in SHAPES {
            run(&report, draw, shape);
        }
    }
}

fn run(report: &Report, draw: Draw, (m, k, n): (usize, usize, usize)) {
    let gops = 2.0 * (m * n * k) as f64;
    let weights = data::weights(draw, n, k, 8, 1);
    let x = data::activations(draw, m, k, 2);
    let mut subjects = vec![ours(&weights, &x, (m, k, n)).work("gops", gops)];

    let device = Device::flex();
    let tensor = |values: &[f32], shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), &device)
    };
    let (x, w) = (tensor(&x, [m, k]), tensor(&weights.values, [n, k]).transpose());
    let scheme = QuantScheme::default();
    let quantized = w.clone().quantize_dynamic(&scheme);
    let input = x.clone();
    let run = move || drop(std::hint::black_box(input.clone().matmul(w.clone())));
    subjects.push(Subject::new("burn flex f32", run).work("gops", gops));
    let run = move || {
        let input = x.clone().quantize_dynamic(&scheme);
        drop(std::hint::black_box(input.matmul(quantized.clone())));
    };
    subjects.push(Subject::new("burn flex int8 dynamic", run).work("gops", gops));
    report.rows("burn", &format!("{m}x{k}x{n} {}", draw.name()), 1, 9, &mut subjects);
}

fn ours<'a>(
    data: &data::WeightData,
    x: &'a [f32],
    (m, k, n): (usize, usize, usize),
) -> Subject<'a> {
    let kernel = Kernel::selected().expect("QUANT_KERNEL names a kernel of this machine");
    let codes = Codes::Bytes(&data.codes);
    let (granularity, scales) = (Granularity::PerChannel(Axis::FIRST), &data.scales[..]);
    let weights = Weights { n, k, codes, granularity, scales, zero_points: &[], minimums: &[] };
    let weights = PackedWeights::new(kernel, &weights).expect("the shape fits the codes");
    let (mut out, mut scratch) = (vec![0.0; m * n], Scratch::new());
    let name = format!("quant int8 dynamic {}", kernel.name());
    Subject::new(name, move || {
        let (dynamic, epilogue) = (DynamicQuantization::default(), Epilogue::default());
        let output = Output::F32(&mut out);
        let done = kernel.linear(&weights, Activations::Dynamic { values: x, m, quantization: dynamic }, &epilogue, output, &mut scratch);
        done.expect("the layer fits its input");
    })
}
