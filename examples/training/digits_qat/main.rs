//! What training with quantization wins over quantization after training, on handwritten digits.
//!
//! ```text
//! cargo run --release -p training --example digits_qat -- --bits 3
//! cargo run --release -p training --example digits_qat -- --bits 2 --seeds 5 --json
//! cargo run --release -p training --example digits_qat -- --bits 2 --curves target
//! cargo run --release -p training --example digits_qat -- --bits 2 --save digits.quant
//! ```
//!
//! For each seed a perceptron 64-32-32-10 is trained in floats; quantized after training, static,
//! with weights of so many bits and activations of 8; and trained on with quantization. Accuracies
//! are those of the integer models on digits that were not trained on.

mod model;

use std::error::Error;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use examples::digits::{self, Samples};
use examples::mlp::{self, accuracy};
use ndarray::Axis;
use quant::calibration::{CalibrationMethod, MseCalibration};
use quant::record::Record;
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, Module, Recipe};
use quant_nn::training::{Adam, Qat, QatOptions, cross_entropy, distillation};
use serde::Serialize;
use training::curves::{Curve, Points, svg};
use training::epochs::{batches, rate};
use training::teacher;

use model::Trainee;

const BATCH: usize = 32;
const FLOAT_EPOCHS: usize = 60;
const FLOAT_RATE: f64 = 0.002;
const QAT_EPOCHS: usize = 40;
const QAT_RATE: f64 = 0.002;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    let (train, held_out) = digits::load();
    let mut seeds = Vec::new();
    for seed in 0..options.seeds {
        let outcome = run(&train, &held_out, options.bits, seed)?;
        if !options.json {
            let Outcome { float, ptq, qat, .. } = &outcome;
            let [float, ptq, qat] = [float, ptq, qat].map(|share| 100.0 * share);
            println!(
                "seed {seed}: float {float:.2} %, after training {ptq:.2} %, trained for it {qat:.2} %"
            );
        }
        seeds.push(outcome);
    }
    if let Some(folder) = &options.curves {
        draw(folder, options.bits, &seeds[0])?;
    }
    if let Some(file) = &options.save {
        seeds[0].record.save_file(file, &BincodeRecorder::default())?;
    }
    let summary = Summary {
        bits: options.bits,
        float: Accuracies::of(&seeds, |seed| seed.float),
        ptq: Accuracies::of(&seeds, |seed| seed.ptq),
        qat: Accuracies::of(&seeds, |seed| seed.qat),
    };
    if options.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        let Summary { bits, float, ptq, qat } = &summary;
        let [float, ptq, qat] = [float, ptq, qat].map(|it| 100.0 * it.mean);
        println!(
            "mean, {bits}-bit weights: float {float:.2} %, after training {ptq:.2} %, trained for it {qat:.2} %"
        );
    }
    Ok(())
}

struct Options {
    bits: u32,
    seeds: u64,
    json: bool,
    curves: Option<PathBuf>,
    /// Where the trained model of the first seed is saved.
    save: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut options = Self { bits: 4, seeds: 5, json: false, curves: None, save: None };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
            match arg.as_str() {
                "--bits" => options.bits = value()?.parse()?,
                "--seeds" => options.seeds = value()?.parse()?,
                "--curves" => options.curves = Some(value()?.into()),
                "--save" => options.save = Some(value()?.into()),
                "--json" => options.json = true,
                _ => {
                    return Err(format!(
                        "{arg} is none of --bits, --seeds, --json, --curves, --save"
                    )
                    .into());
                }
            }
        }
        if !(2..=8).contains(&options.bits) || options.seeds == 0 {
            return Err("--bits is from 2 to 8, and --seeds at least 1".into());
        }
        Ok(options)
    }
}

#[derive(Serialize)]
struct Summary {
    bits: u32,
    float: Accuracies,
    ptq: Accuracies,
    qat: Accuracies,
}

#[derive(Serialize)]
struct Accuracies {
    mean: f64,
    per_seed: Vec<f64>,
}

impl Accuracies {
    fn of(outcomes: &[Outcome], which: impl Fn(&Outcome) -> f64) -> Self {
        let per_seed: Vec<f64> = outcomes.iter().map(which).collect();
        Self { mean: per_seed.iter().sum::<f64>() / per_seed.len() as f64, per_seed }
    }
}

/// What became of one seed.
struct Outcome {
    float: f64,
    ptq: f64,
    qat: f64,
    /// By epoch: the loss on what is trained on, and the accuracy of the integer model on what is
    /// held out, from the phase on that quantizes.
    loss: Points,
    accuracy: Points,
    /// The model that was trained with quantization.
    record: Record,
}

fn run(
    train: &Samples,
    held_out: &Samples,
    bits: u32,
    seed: u64,
) -> Result<Outcome, Box<dyn Error>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let data = Data::new(train)?;
    let model = Trainee::new(&mut rng)?;
    train_float(&model, &data, &mut rng)?;
    let float_record = Record::from_module(&model)?;
    let float = test(&float_record, held_out)?;

    let scheme = format!("per-channel-symmetric-int{bits}").parse()?;
    // Ranges that lose least of each weight: training begins with them, too.
    let mut recipe = Recipe::new()
        .scheme(scheme)
        .calibration(CalibrationMethod::Mse(MseCalibration {}))
        .activations(ActivationScheme::STATIC);
    let sample = train.images.axis_chunks_iter(Axis(0), 64).take(8);
    let quantized = host(&float_record)?
        .quantize_weights(&mut recipe)?
        .calibrate(&recipe, sample, |model, batch| model.forward(&batch.to_owned()))?
        .convert()?;
    let ptq = measure(&quantized, held_out)?;

    let teacher = host(&float_record)?;
    let (qat, loss, accuracy) =
        train_quantized(model, &teacher, &recipe, &data, held_out, &mut rng)?;
    let record = qat.export()?;
    let qat = test(&record, held_out)?;
    Ok(Outcome { float, ptq, qat, loss, accuracy, record })
}

/// The training set, as tensors.
struct Data {
    images: Tensor,
    digits: Vec<u32>,
}

impl Data {
    fn new(samples: &Samples) -> candle_core::Result<Self> {
        let images = samples.images.iter().copied().collect();
        let images = Tensor::from_vec(images, samples.images.shape(), &Device::Cpu)?;
        Ok(Self { images, digits: samples.digits.iter().map(|&digit| digit as u32).collect() })
    }

    fn batch(&self, which: &[usize]) -> candle_core::Result<(Tensor, Vec<u32>)> {
        let rows: Vec<u32> = which.iter().map(|&i| i as u32).collect();
        let images = self.images.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
        Ok((images, which.iter().map(|&i| self.digits[i]).collect()))
    }
}

fn train_float(
    model: &Trainee,
    data: &Data,
    rng: &mut fastrand::Rng,
) -> Result<(), Box<dyn Error>> {
    let mut adam = Adam::new(model)?;
    for epoch in 0..FLOAT_EPOCHS {
        for batch in batches(data.digits.len(), BATCH, rng) {
            let (images, digits) = data.batch(&batch)?;
            let loss = cross_entropy(&model.forward(&images)?, &digits)?;
            adam.step(model, &loss.backward()?, rate(FLOAT_RATE, epoch, FLOAT_EPOCHS))?;
        }
    }
    Ok(())
}

fn train_quantized(
    model: Trainee,
    teacher: &mlp::Mlp,
    recipe: &Recipe,
    data: &Data,
    held_out: &Samples,
    rng: &mut fastrand::Rng,
) -> Result<(Qat<Trainee>, Points, Points), Box<dyn Error>> {
    let mut qat = Qat::new(model, recipe, QatOptions::default())?;
    // One look at the data without learning from it finds the ranges.
    for batch in batches(data.digits.len(), BATCH, rng) {
        let (images, _) = data.batch(&batch)?;
        qat.train(|model| model.forward(&images))?;
    }
    qat.enable_fake_quant()?;
    let mut adam = Adam::new(qat.model())?;
    let (mut losses, mut accuracies) = (Vec::new(), Vec::new());
    for epoch in 0..QAT_EPOCHS {
        if epoch == QAT_EPOCHS * 3 / 4 {
            qat.freeze()?;
        }
        let mut sum = 0.0;
        let batches = batches(data.digits.len(), BATCH, rng);
        for batch in &batches {
            let (images, digits) = data.batch(batch)?;
            let scores = qat.train(|model| model.forward(&images))?;
            let float = teacher::scores(&images, |images| teacher.forward(images))?;
            let loss = (cross_entropy(&scores, &digits)? + distillation(&scores, &float, 2.0)?)?;
            sum += f64::from(loss.to_scalar::<f32>()?);
            adam.step(qat.model(), &loss.backward()?, rate(QAT_RATE, epoch, QAT_EPOCHS))?;
        }
        losses.push((epoch as f64 + 1.0, sum / batches.len() as f64));
        accuracies.push((epoch as f64 + 1.0, test(&qat.export()?, held_out)?));
    }
    Ok((qat, losses, accuracies))
}

/// The model over arrays, with what a record has.
fn host(record: &Record) -> Result<mlp::Mlp, Box<dyn Error>> {
    Ok(mlp::Mlp::new(&mut fastrand::Rng::with_seed(0)).load_record(record.clone())?)
}

fn test(record: &Record, held_out: &Samples) -> Result<f64, Box<dyn Error>> {
    measure(&host(record)?, held_out)
}

fn measure(model: &mlp::Mlp, held_out: &Samples) -> Result<f64, Box<dyn Error>> {
    Ok(accuracy(&model.predict(&held_out.images)?, &held_out.digits))
}

fn draw(folder: &std::path::Path, bits: u32, outcome: &Outcome) -> Result<(), Box<dyn Error>> {
    let level = |name: &str, value: f64| {
        let last = outcome.accuracy.last().map_or(1.0, |point| point.0);
        Curve { name: name.into(), points: vec![(1.0, value), (last, value)] }
    };
    let trained = Curve { name: "trained for it".into(), points: outcome.accuracy.clone() };
    let accuracy = [level("float", outcome.float), level("after training", outcome.ptq), trained];
    let loss = [Curve { name: "loss".into(), points: outcome.loss.clone() }];
    let title = format!("digits, {bits}-bit weights, integer model");
    let files = [
        ("accuracy", svg(&format!("{title}: accuracy"), "epoch", &accuracy)),
        ("loss", svg(&format!("{title}: loss in training"), "epoch", &loss)),
    ];
    for (name, svg) in files {
        std::fs::write(folder.join(format!("digits-int{bits}-{name}.svg")), svg)?;
    }
    Ok(())
}
