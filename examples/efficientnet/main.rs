//! Photographs classified by a real model, in floats and in integers.
//!
//! ```text
//! cargo run --release --example efficientnet -- --weights weights.safetensors --photos photos.npy
//! cargo run --release --example efficientnet -- … --observe others.npy --activations static
//! cargo run --release --example efficientnet -- … --observe others.npy --activations static \
//!     --scheme per-tensor-symmetric-int8 --equalize --correct-biases
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use efficientnet::{EfficientNet, load, most_likely, read_photos};
use indicatif::ProgressIterator;
use ndarray::{ArrayD, Axis};
use quant::activation::{BiasCorrection, LayerComparison};
use quant::calibration::CalibrationMethod;
use quant::channels::{ChannelMethod, rescale};
use quant::moments::SecondMoments;
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, Module, QuantizationScheme, Recipe, Rule};
use quant_nn::ForwardError;
use serde::Serialize;

/// Photographs that are classified together.
const BATCH: usize = 8;

#[derive(Parser)]
struct Args {
    /// The weights, as `prepare.py weights` writes them.
    #[arg(long)]
    weights: PathBuf,
    /// Photographs to be classified, as `prepare.py photos` writes them.
    #[arg(long)]
    photos: PathBuf,
    /// Other photographs, which methods that need data are shown.
    #[arg(long)]
    observe: Option<PathBuf>,
    /// The scheme of the weights.
    #[arg(long, default_value = "per-channel-symmetric-int8")]
    scheme: QuantizationScheme,
    /// How the scales and codes of the weights are found.
    #[arg(long, default_value = "min-max")]
    calibration: CalibrationMethod,
    /// The scheme of the weights of depthwise convolutions, in place of that of all.
    #[arg(long)]
    depthwise_scheme: Option<QuantizationScheme>,
    /// How the scales and codes of depthwise convolutions are found, of which there are no second moments.
    #[arg(long, default_value = "min-max")]
    depthwise_calibration: CalibrationMethod,
    /// How the inputs of layers are quantized: `float`, `dynamic` or `static`.
    #[arg(long, default_value = "float")]
    activations: ActivationScheme,
    /// How the ranges of static inputs are found.
    #[arg(long, default_value = "min-max")]
    input_calibration: CalibrationMethod,
    /// Give each output back the mean that it has in floats.
    #[arg(long, requires = "observe")]
    correct_biases: bool,
    /// Give channels the same largest weight in neighbouring layers, before they are quantized.
    #[arg(long)]
    equalize: bool,
    /// Compare the outputs of each layer with those in floats, and print them.
    #[arg(long)]
    layers: bool,
    /// The number of threads; all if left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    scheme: String,
    calibration: String,
    activations: String,
    photos: usize,
    /// The share of photographs with the same most likely class as in floats.
    agreement: f64,
    /// The mean probability of the most likely class in floats.
    confidence: f64,
    bytes_f32: usize,
    bytes: usize,
    /// Seconds for all photographs.
    seconds_f32: f64,
    seconds: f64,
    kernel: String,
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let args = Args::parse();
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = args.threads {
        pool = pool.num_threads(threads);
    }
    pool.build()?.install(|| run(&args))
}

fn run(args: &Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    let photos = batches(&read_photos(&args.photos)?);
    let observed = match &args.observe {
        Some(path) => batches(&read_photos(path)?),
        None => Vec::new(),
    };
    let mut float = load(&args.weights)?;
    if args.equalize {
        let pairs = float.pairs();
        let rescaled = rescale(&mut float, &pairs, &ChannelMethod::Equalize)?;
        if !args.json {
            println!("{rescaled}");
        }
    }
    let mut model = quantize(float.clone(), args, &observed)?;
    if args.correct_biases {
        let corrected =
            BiasCorrection::apply(&mut float, &mut model, &observed, EfficientNet::forward)?;
        if !args.json {
            println!("{corrected}");
        }
    }
    if args.layers {
        let batches = photos.iter().take(4);
        let compared = LayerComparison::of(&mut float, &mut model, batches, EfficientNet::forward)?;
        println!("{compared}");
    }
    let (expected, seconds_f32) = classes(&float, &photos)?;
    let (found, seconds) = classes(&model, &photos)?;
    let same = expected.iter().zip(&found).filter(|(a, b)| a.0 == b.0).count();
    let report = Report {
        scheme: args.scheme.to_string(),
        calibration: args.calibration.to_string(),
        activations: args.activations.to_string(),
        photos: expected.len(),
        agreement: same as f64 / expected.len() as f64,
        confidence: expected.iter().map(|of| f64::from(of.1)).sum::<f64>() / expected.len() as f64,
        bytes_f32: float.save_bytes(&BincodeRecorder::default())?.len(),
        bytes: model.save_bytes(&BincodeRecorder::default())?.len(),
        seconds_f32,
        seconds,
        kernel: quant::kernel::Kernel::selected()?.name().into(),
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

fn quantize(
    model: EfficientNet,
    args: &Args,
    observed: &[ArrayD<f32>],
) -> Result<EfficientNet, Box<dyn Error + Send + Sync>> {
    let depthwise = args.depthwise_scheme.unwrap_or(args.scheme);
    let mut recipe = Recipe::new()
        .scheme(args.scheme)
        .calibration(args.calibration)
        .activations(args.activations)
        .activation_calibration(args.input_calibration)
        .rule(
            Rule::quantize("**.depthwise.conv.weight", depthwise)
                .calibration(args.depthwise_calibration),
        );
    if recipe.needs_moments() {
        let mut float = model.clone();
        let moments =
            SecondMoments::observe(&mut float, observed, |_| true, EfficientNet::forward)?;
        recipe = recipe.moments(moments);
    }
    let batches = observed.iter().progress();
    Ok(match args.activations {
        ActivationScheme::Static { .. } => {
            model.quantize_with(&recipe, batches, EfficientNet::forward)?
        }
        _ => model.quantize(&recipe)?,
    })
}

fn batches(photos: &ArrayD<f32>) -> Vec<ArrayD<f32>> {
    photos.axis_chunks_iter(Axis(0), BATCH).map(|chunk| chunk.to_owned()).collect()
}

/// The most likely class of each photograph, its probability, and the seconds that it took.
fn classes(
    model: &EfficientNet,
    photos: &[ArrayD<f32>],
) -> Result<(Vec<(usize, f32)>, f64), ForwardError> {
    let start = Instant::now();
    let mut classes = Vec::new();
    for photos in photos.iter().progress() {
        classes.extend(most_likely(&model.forward(photos)?));
    }
    Ok((classes, start.elapsed().as_secs_f64()))
}
