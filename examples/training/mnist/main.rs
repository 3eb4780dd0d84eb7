//! A convolutional network on MNIST: trained in floats, quantized after training to 8 bits, and
//! trained for 4 bits.
//!
//! ```text
//! examples/training/mnist/fetch.sh
//! cargo run --release -p training --example mnist
//! cargo run --release -p training --example mnist -- --curves target
//! ```
//!
//! 8,000 of the digits are trained on and 2,000 held out. Weights have a scale for each channel,
//! activations are static and have 8 bits; norms are folded into the convolutions, after training
//! or in it. Accuracies are those of the deployed models on what is held out.

mod data;
mod model;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Var};
use indicatif::{ProgressBar, ProgressStyle};
use ndarray::ArrayD;
use quant::calibration::{CalibrationMethod, MseCalibration};
use quant::record::{Record, Recorder};
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, FloatTensor, Module, Recipe};
use quant_nn::FoldNorms;
use quant_nn::training::{Adam, Qat, QatOptions, cross_entropy, distillation, train_mode};
use training::curves::{Curve, Points, svg};
use training::epochs::{batches, rate};
use training::teacher;

use data::Samples;
use model::LeNet;

const BATCH: usize = 64;
const FLOAT_EPOCHS: usize = 10;
const QAT_EPOCHS: usize = 6;
const RATE: f64 = 0.002;

type Deployed = LeNet<ArrayD<f32>>;

fn main() -> Result<(), Box<dyn Error>> {
    let curves = curves_folder()?;
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/mnist"));
    let (train, held_out) = data::load(root)?;
    let mut rng = fastrand::Rng::with_seed(0);
    let make = |shape: &[usize], values| -> Result<Var, quant::tensor::TensorError> {
        Var::from_vec(values, shape, &Device::Cpu)
            .map_err(|error| quant::tensor::TensorError::Storage(error.to_string()))
    };
    let model = LeNet::new(&make, &mut rng)?;

    let loss = train_float(&model, &train, &mut rng)?;
    let record = Record::from_module(&model)?;
    // Folded, it computes the same, and faster.
    let float = fresh()?.load_record(record)?.fold_norms()?;
    let quantized = after_training(float.clone(), &train)?;
    let (trained, qat_loss) = train_quantized(model, &float, &train, &mut rng)?;

    println!("| | accuracy | points | bytes | images per second |\n|---|---|---|---|---|");
    let all = [
        ("f32", &float),
        ("int8, after training", &quantized),
        ("int4 weights, trained for", &trained),
    ];
    let reference = accuracy(&float, &held_out)?;
    let speeds = images_per_second(all.map(|(_, model)| model), &held_out)?;
    for ((name, model), speed) in all.into_iter().zip(speeds) {
        let accuracy = accuracy(model, &held_out)?;
        let bytes = model.save_bytes(&BincodeRecorder::default())?.len();
        let points = 100.0 * (accuracy - reference);
        println!("| {name} | {:.2} % | {points:+.2} | {bytes} | {speed:.0} |", 100.0 * accuracy);
    }
    print_confusion(&trained, &held_out)?;
    if let Some(folder) = curves {
        let curves = [
            Curve { name: "float".into(), points: loss },
            Curve { name: "int4 weights".into(), points: qat_loss },
        ];
        std::fs::write(
            folder.join("mnist-loss.svg"),
            svg("MNIST: loss in training", "epoch", &curves),
        )?;
    }
    Ok(())
}

fn curves_folder() -> Result<Option<PathBuf>, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next(), args.next()) {
        (None, ..) => Ok(None),
        (Some("--curves"), Some(folder), None) => Ok(Some(folder.into())),
        _ => Err("the only argument is --curves FOLDER".into()),
    }
}

/// A bar on a terminal; nothing elsewhere.
fn bar(name: &'static str, batches: usize) -> Result<ProgressBar, Box<dyn Error>> {
    let style = ProgressStyle::with_template("{msg:<16} {bar:40} {pos}/{len} {elapsed}")?;
    Ok(ProgressBar::new(batches as u64).with_style(style).with_message(name))
}

fn train_float(
    model: &LeNet<Var>,
    samples: &Samples,
    rng: &mut fastrand::Rng,
) -> Result<Points, Box<dyn Error>> {
    let mut adam = Adam::new(model)?;
    let bar = bar("float", FLOAT_EPOCHS * samples.len().div_ceil(BATCH))?;
    let mut losses = Vec::new();
    for epoch in 0..FLOAT_EPOCHS {
        let (mut sum, batches) = (0.0, batches(samples.len(), BATCH, rng));
        for batch in &batches {
            let (images, digits) = samples.batch(batch)?;
            let scores = train_mode(|| model.forward(&images))?;
            let loss = cross_entropy(&scores, &digits)?;
            sum += f64::from(loss.to_scalar::<f32>()?);
            adam.step(model, &loss.backward()?, rate(RATE, epoch, FLOAT_EPOCHS))?;
            bar.inc(1);
        }
        losses.push((epoch as f64 + 1.0, sum / batches.len() as f64));
    }
    bar.finish_and_clear();
    Ok(losses)
}

/// The network over arrays, which is what is deployed; its values are to be loaded.
fn fresh() -> Result<Deployed, Box<dyn Error>> {
    let make = |shape: &[usize], values| ArrayD::from_values(shape, values, &());
    Ok(LeNet::new(&make, &mut fastrand::Rng::with_seed(0))?)
}

fn recipe(bits: u32) -> Result<Recipe, Box<dyn Error>> {
    Ok(Recipe::new()
        .scheme(format!("per-channel-symmetric-int{bits}").parse()?)
        .calibration(CalibrationMethod::Mse(MseCalibration {}))
        .activations(ActivationScheme::STATIC))
}

fn after_training(model: Deployed, samples: &Samples) -> Result<Deployed, Box<dyn Error>> {
    let mut recipe = recipe(8)?;
    let batches = (0..512).step_by(BATCH).map(|start| samples.images(start..start + BATCH));
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    Ok(model
        .quantize_weights(&mut recipe)?
        .calibrate(&recipe, batches, |model, batch| model.forward(&batch))?
        .convert()?)
}

fn train_quantized(
    model: LeNet<Var>,
    teacher: &Deployed,
    samples: &Samples,
    rng: &mut fastrand::Rng,
) -> Result<(Deployed, Points), Box<dyn Error>> {
    let mut qat = Qat::new(model, &recipe(4)?, QatOptions::default())?;
    let mut adam = Adam::new(qat.model())?;
    for batch in batches(samples.len(), BATCH, rng).iter().take(32) {
        let (images, _) = samples.batch(batch)?;
        qat.train(|model| model.forward(&images))?;
    }
    qat.enable_fake_quant()?;
    let bar = bar("int4 weights", QAT_EPOCHS * samples.len().div_ceil(BATCH))?;
    let mut losses = Vec::new();
    for epoch in 0..QAT_EPOCHS {
        if epoch == QAT_EPOCHS * 2 / 3 {
            qat.freeze()?;
        }
        let (mut sum, batches) = (0.0, batches(samples.len(), BATCH, rng));
        for batch in &batches {
            let (images, digits) = samples.batch(batch)?;
            let scores = qat.train(|model| model.forward(&images))?;
            let float = teacher::scores(&images, |images| teacher.forward(images))?;
            let right = cross_entropy(&scores, &digits)?;
            sum += f64::from(right.to_scalar::<f32>()?);
            let loss = (right + distillation(&scores, &float, 2.0)?)?;
            adam.step(qat.model(), &loss.backward()?, rate(RATE / 2.0, epoch, QAT_EPOCHS))?;
            bar.inc(1);
        }
        losses.push((epoch as f64 + 1.0, sum / batches.len() as f64));
    }
    bar.finish_and_clear();
    // To bytes and back, as one ships it.
    let recorder = BincodeRecorder::default();
    let bytes = qat.export()?.save_bytes(&recorder)?;
    let record = recorder.load(&mut bytes.as_slice(), Some(bytes.len() as u64))?;
    Ok((fresh()?.fold_norms()?.load_record(record)?, losses))
}

fn predict(model: &Deployed, samples: &Samples) -> Result<Vec<u32>, Box<dyn Error>> {
    let mut predicted = Vec::new();
    for start in (0..samples.len()).step_by(500) {
        let scores = model.forward(&samples.images(start..samples.len().min(start + 500))?)?;
        for scores in scores.rows() {
            let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            predicted.push(best.map_or(0, |(digit, _)| digit as u32));
        }
    }
    Ok(predicted)
}

fn accuracy(model: &Deployed, samples: &Samples) -> Result<f64, Box<dyn Error>> {
    let predicted = predict(model, samples)?;
    let right = predicted.iter().zip(&samples.digits).filter(|(a, b)| a == b).count();
    Ok(right as f64 / samples.len() as f64)
}

/// On one thread, 100 images at a time: the best of 100 turns, which the models take one after
/// the other, so that what else the machine does falls on all of them.
fn images_per_second(
    models: [&Deployed; 3],
    samples: &Samples,
) -> Result<[f64; 3], Box<dyn Error>> {
    let images = samples.images(0..100)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut best = [f64::INFINITY; 3];
    for _ in 0..100 {
        for (model, best) in models.into_iter().zip(&mut best) {
            let start = Instant::now();
            pool.install(|| model.forward(&images))?;
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    Ok(best.map(|seconds| 100.0 / seconds))
}

fn print_confusion(model: &Deployed, samples: &Samples) -> Result<(), Box<dyn Error>> {
    let mut counts = [[0; 10]; 10];
    for (&predicted, &digit) in predict(model, samples)?.iter().zip(&samples.digits) {
        counts[digit as usize][predicted as usize] += 1;
    }
    println!("\nint4: the digit shown (rows) and the digit seen (columns)\n");
    let numbers = |row: &[i32]| row.iter().map(|n| format!("{n:>5}")).collect::<String>();
    println!("    {}", numbers(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    for (digit, row) in counts.iter().enumerate() {
        println!("{digit:>4}{}", numbers(row));
    }
    Ok(())
}
