//! Post-training quantization of a digit classifier, on real data.
//!
//! ```text
//! cargo run --release --example digits
//! cargo run --release --example digits -- --json
//! ```

use std::error::Error;

use examples::digits::{self, Samples};
use examples::mlp::{Mlp, accuracy};
use ndarray::Array1;
use quant::{
    BincodeRecorder, CalibrationMethod, MinMaxCalibration, Module, ModuleMapper, MseCalibration,
    ParamId, QuantizationScheme, Quantizer, Tensor,
};
use serde::Serialize;

/// The float weights; `cargo run --release --example train_digits` writes this file anew.
const WEIGHTS: &[u8] = include_bytes!("digits-f32.quant");

const MIN_MAX: CalibrationMethod = CalibrationMethod::MinMax(MinMaxCalibration {});
const MSE: CalibrationMethod = CalibrationMethod::Mse(MseCalibration {});

/// What is compared: a name for the output, the scheme, and how ranges are found.
const VARIANTS: [(&str, &str, CalibrationMethod); 7] = [
    ("per_tensor_symmetric_int8", "per-tensor-symmetric-int8", MIN_MAX),
    ("per_tensor_affine_int8", "per-tensor-affine-int8", MIN_MAX),
    ("per_channel_symmetric_int8", "per-channel-symmetric-int8", MIN_MAX),
    ("per_block_int8", "per-block-symmetric-int8", MIN_MAX),
    ("per_channel_int4", "per-channel-symmetric-int4", MIN_MAX),
    ("per_channel_int4_mse", "per-channel-symmetric-int4", MSE),
    ("per_channel_int2", "per-channel-symmetric-int2", MSE),
];

/// Makes a loaded model float again, as one does who wants small files and float speed.
struct Dequantize {}

impl ModuleMapper for Dequantize {
    fn map_float(&mut self, _id: ParamId, tensor: Tensor) -> Tensor {
        tensor.dequantize()
    }
}

#[derive(Serialize)]
struct Outcome {
    accuracy: f64,
    bytes: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|arg| arg == "--json");
    let (_, held_out) = digits::load();
    let model = load(WEIGHTS)?;
    let f32 = measure(&model, &held_out)?;
    if !json {
        let quantizer = quantizer(VARIANTS[2].1.parse()?, MIN_MAX);
        println!("{}\n", quantizer.plan(&model)?);
        println!("{:<28}{:>9}{:>8}{:>7}", "", "accuracy", "bytes", "ratio");
        print_row("f32", &f32, &f32);
    }
    let mut outcomes = serde_json::Map::new();
    outcomes.insert("f32".into(), serde_json::to_value(&f32)?);
    for (name, scheme, calibration) in VARIANTS {
        let quantized =
            model.clone().quantize_weights(&mut quantizer(scheme.parse()?, calibration))?;
        check_round_trip(&quantized, &held_out)?;
        let outcome = measure(&quantized, &held_out)?;
        if !json {
            print_row(name, &outcome, &f32);
        }
        outcomes.insert(name.into(), serde_json::to_value(outcome)?);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        println!("\nsaved, loaded and dequantized: the same predictions, every time");
    }
    Ok(())
}

fn quantizer(
    scheme: QuantizationScheme,
    calibration: CalibrationMethod,
) -> Quantizer<CalibrationMethod> {
    Quantizer { calibration, scheme }
}

/// A model of the right shape, with the weights of a record.
fn load(record: &[u8]) -> Result<Mlp, Box<dyn Error>> {
    let fresh = Mlp::new(&mut fastrand::Rng::with_seed(0));
    Ok(fresh.load_bytes(record, &BincodeRecorder::default())?)
}

fn predict(model: &Mlp, samples: &Samples) -> Array1<usize> {
    model.predict(samples.images.view())
}

fn measure(model: &Mlp, samples: &Samples) -> Result<Outcome, Box<dyn Error>> {
    Ok(Outcome {
        accuracy: accuracy(&predict(model, samples), &samples.digits),
        bytes: model.save_bytes(&BincodeRecorder::default())?.len(),
    })
}

/// Saves, loads into a fresh model, dequantizes, and compares predictions.
fn check_round_trip(model: &Mlp, samples: &Samples) -> Result<(), Box<dyn Error>> {
    let record = model.save_bytes(&BincodeRecorder::default())?;
    let loaded = load(&record)?.map(&mut Dequantize {});
    let same = predict(&loaded, samples) == predict(model, samples);
    if same { Ok(()) } else { Err("the loaded model predicts otherwise".into()) }
}

fn print_row(name: &str, outcome: &Outcome, f32: &Outcome) {
    let Outcome { accuracy, bytes } = outcome;
    let ratio = f32.bytes as f64 / *bytes as f64;
    println!("{name:<28}{:>8.2}%{bytes:>8}{ratio:>7.2}", 100.0 * accuracy);
}
