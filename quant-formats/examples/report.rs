//! Writes a report on a synthetic transformer: `cargo run -p quant-formats --example report`.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;

use quant::MinMaxCalibration;
use quant::quantize::quantize_values;
use quant_formats::report::{Report, TensorReport};

const LAYERS: usize = 6;
const WEIGHTS: [(&str, [usize; 2]); 4] = [
    ("attention.query", [384, 384]),
    ("attention.output", [384, 384]),
    ("mlp.up", [1536, 384]),
    ("mlp.down", [384, 1536]),
];
const SCHEMES: [&str; 3] =
    ["per-channel-symmetric-int8", "per-tensor-affine-int4", "per-block-symmetric-int4"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut tensors = Vec::new();
    for layer in 0..LAYERS {
        for (number, (name, shape)) in WEIGHTS.into_iter().enumerate() {
            let path = format!("layers.{layer}.{name}");
            let scheme = SCHEMES[(layer + number) % SCHEMES.len()];
            tensors.push(weight(&path, shape, scheme)?);
            tensors.push(bias(&path, shape[0])?);
        }
    }
    let report =
        Report::new("A transformer of six layers", tensors).metadata("source", "synthetic");
    let path = std::env::args().nth(1).unwrap_or_else(|| "report.html".into());
    report.write_html(BufWriter::new(File::create(&path)?))?;
    println!("{path}");
    Ok(())
}

fn weight(path: &str, shape: [usize; 2], scheme: &str) -> Result<TensorReport, Box<dyn Error>> {
    let values = waves(shape[0] * shape[1]);
    let quantized = quantize_values(&shape, &values, scheme.parse()?, &MinMaxCalibration {})?;
    Ok(TensorReport::new(format!("{path}.weight"), &shape, &values, Some(&quantized))?)
}

fn bias(path: &str, len: usize) -> Result<TensorReport, Box<dyn Error>> {
    let report = TensorReport::new(format!("{path}.bias"), &[len], &waves(len), None)?;
    Ok(report.note("rank 1"))
}

/// Values whose distribution has a peak at zero and tails.
fn waves(len: usize) -> Vec<f32> {
    let value = |i: usize| (i as f32 * 0.7).sin() * (i as f32 * 0.013).cos() * (i as f32).sin();
    (0..len).map(|i| 0.1 * value(i)).collect()
}
