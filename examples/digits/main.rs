//! Post-training quantization of a digit classifier, on real data.
//!
//! ```text
//! cargo run --release --example digits
//! cargo run --release --example digits -- --json
//! cargo run --release --example digits -- --save target
//! ```

use std::error::Error;
use std::path::PathBuf;

use examples::digits::{self, Samples};
use examples::mlp::{Mlp, accuracy, recipe};
use ndarray::Array1;
use quant::activation::ActivationMode;
use quant::calibration::{CalibrationMethod, MseCalibration};
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, MinMaxCalibration, Module, ModuleMapper, ParamId, Quantizer, Tensor};
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
    /// The share of predictions that are those of the float model.
    equal_to_f32: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|arg| arg == "--json");
    let folder = std::env::args().skip_while(|arg| arg != "--save").nth(1).map(PathBuf::from);
    let (train, held_out) = digits::load();
    let model = load(WEIGHTS)?;
    let test = Test { reference: model.predict(&held_out.images)?, held_out };
    let f32 = test.measure(&model)?;
    if !json {
        println!("{}\n", recipe(ActivationScheme::STATIC)?.plan(&model)?);
        println!("{:<28}{:>9}{:>8}{:>7}{:>14}", "", "accuracy", "bytes", "ratio", "equal to f32");
        print_row("f32", &f32, &f32);
    }
    let mut outcomes = serde_json::Map::new();
    outcomes.insert("f32".into(), serde_json::to_value(&f32)?);
    for (name, quantized) in variants(&model, &train)? {
        test.check_round_trip(&quantized)?;
        if let Some(folder) = &folder {
            let file = folder.join(name).with_extension("quant");
            quantized.save_file(file, &BincodeRecorder::default())?;
        }
        let outcome = test.measure(&quantized)?;
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

/// The model, quantized in every way that is compared.
fn variants(model: &Mlp, train: &Samples) -> Result<Vec<(&'static str, Mlp)>, Box<dyn Error>> {
    let mut variants = Vec::new();
    for (name, scheme, calibration) in VARIANTS {
        let scheme = scheme.parse()?;
        let quantizer = Quantizer { calibration, scheme };
        variants.push((name, model.clone().quantize_weights(quantizer)?));
    }
    let mut dynamic = recipe(ActivationScheme::DYNAMIC)?;
    let quantized = model.clone().quantize_weights(&mut dynamic)?.prepare(&dynamic)?;
    variants.push(("dynamic_int8", quantized));

    variants.push(("static_int8", model.clone().quantize_static(train)?));
    Ok(variants)
}

/// A model of the right shape, with the weights of a record.
fn load(record: &[u8]) -> Result<Mlp, Box<dyn Error>> {
    let fresh = Mlp::new(&mut fastrand::Rng::with_seed(0));
    Ok(fresh.load_bytes(record, &BincodeRecorder::default())?)
}

/// What was held out, and what the float model says of it.
struct Test {
    held_out: Samples,
    reference: Array1<usize>,
}

impl Test {
    fn measure(&self, model: &Mlp) -> Result<Outcome, Box<dyn Error>> {
        let predicted = model.predict(&self.held_out.images)?;
        Ok(Outcome {
            accuracy: accuracy(&predicted, &self.held_out.digits),
            bytes: model.save_bytes(&BincodeRecorder::default())?.len(),
            equal_to_f32: accuracy(&predicted, &self.reference),
        })
    }

    /// Saves, loads into a fresh model, and compares predictions: of the model as it was loaded,
    /// and, where activations are float, of what its mapper makes of it.
    fn check_round_trip(&self, model: &Mlp) -> Result<(), Box<dyn Error>> {
        let predictions = model.predict(&self.held_out.images)?;
        let loaded = load(&model.save_bytes(&BincodeRecorder::default())?)?;
        if loaded.predict(&self.held_out.images)? != predictions {
            return Err("the loaded model predicts otherwise".into());
        }
        let is_weight_only = matches!(model.fc1.input.mode(), ActivationMode::Float);
        let float = loaded.map(&mut Dequantize {}).predict(&self.held_out.images)?;
        if is_weight_only && float != predictions {
            return Err("the dequantized model predicts otherwise".into());
        }
        Ok(())
    }
}

fn print_row(name: &str, outcome: &Outcome, f32: &Outcome) {
    let Outcome { accuracy, bytes, equal_to_f32 } = outcome;
    let (accuracy, equal) = (100.0 * accuracy, 100.0 * equal_to_f32);
    let ratio = f32.bytes as f64 / *bytes as f64;
    println!("{name:<28}{accuracy:>8.2}%{bytes:>8}{ratio:>7.2}{equal:>13.2}%");
}
