//! How much of a language model each method for few bits keeps, as rows of a table.
//!
//! ```text
//! cargo run --release --example methods -- --model FILE --observe other.txt --text text.txt \
//!     'per-block-full-range-int4:scale=f16 by gptq:descending'
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use indicatif::ProgressBar;
use quant::moments::{MomentSource, SecondMoments};
use quant::quantize::mixed::Precision;
use quant::scheme::KeyValueScheme;
use quant::{ParamId, Recipe, Rule};
use quant_formats::MomentsFile;
use smollm::{Buffers, Checkpoint, Llama, Logits, Scheme, SmolError, Step, WINDOW, compare};

#[derive(Parser)]
struct Args {
    /// The model, as GGUF.
    #[arg(long)]
    model: PathBuf,
    /// A text from which second moments are taken.
    #[arg(long, conflicts_with = "moments")]
    observe: Option<PathBuf>,
    /// The number of windows of 512 tokens of that text.
    #[arg(long, default_value_t = 24)]
    windows: usize,
    /// Write the second moments here.
    #[arg(long, requires = "observe")]
    save_moments: Option<PathBuf>,
    /// Second moments that were written before.
    #[arg(long)]
    moments: Option<PathBuf>,
    /// The text on which models are compared.
    #[arg(long)]
    text: PathBuf,
    /// The number of tokens of that text.
    #[arg(long, default_value_t = 8192)]
    tokens: usize,
    /// Schemes of the weights, each `by` a calibration.
    #[arg(required = true, value_name = "SCHEME by CALIBRATION")]
    methods: Vec<Precision>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let checkpoint = Checkpoint::open(&args.model)?;
    let tokenizer = checkpoint.tokenizer()?;
    let read = |path: &Path, most: usize| -> Result<Vec<u32>, Box<dyn Error>> {
        let mut tokens = tokenizer.encode(&std::fs::read_to_string(path)?)?;
        tokens.truncate(most);
        Ok(tokens)
    };
    let text = read(&args.text, args.tokens)?;
    let mut reference = checkpoint.model(Scheme::Float, KeyValueScheme::F32)?;
    let moments: Option<Arc<dyn MomentSource>> = match (&args.observe, &args.moments) {
        (Some(path), _) => {
            let start = Instant::now();
            let moments = observe(&mut reference, &read(path, args.windows * WINDOW)?)?;
            eprintln!("second moments took {:.0} s", start.elapsed().as_secs_f64());
            if let Some(path) = &args.save_moments {
                quant_formats::write_moments(&moments, path)?;
            }
            Some(Arc::new(moments))
        }
        (None, Some(path)) => Some(Arc::new(MomentsFile::open(path)?)),
        (None, None) => None,
    };
    println!(
        "| method | KL divergence | same top token | bytes | seconds |\n|---|---|---|---|---|"
    );
    for method in &args.methods {
        let recipe = recipe(*method, moments.as_ref())?;
        let model = checkpoint.model(Scheme::Float, KeyValueScheme::F32)?;
        let start = Instant::now();
        let plan = recipe.plan(&model)?;
        let model = plan.apply(model)?;
        let seconds = start.elapsed().as_secs_f64();
        let bar = ProgressBar::new((text.len() / WINDOW) as u64);
        let summary = compare([&reference, &model], &text, || bar.inc(1))?;
        bar.finish_and_clear();
        println!(
            "| {method} | {:.4} ± {:.4} | {:.1} % | {:.1} MB | {seconds:.0} |",
            summary.kl.mean,
            summary.kl.error,
            100.0 * summary.same_top,
            plan.bytes_after() as f64 / 1e6,
        );
    }
    Ok(())
}

/// The weights of layers by a method, and the embedding, which is the output layer, too, in 8 bits.
fn recipe(
    method: Precision,
    moments: Option<&Arc<dyn MomentSource>>,
) -> Result<Recipe, Box<dyn Error>> {
    let Precision::Quantized { scheme, calibration } = method else {
        return Err("float is what the others are compared with".into());
    };
    let embedding = Rule::quantize("token_embd.**", "per-block-symmetric-int8:scale=f16".parse()?);
    let recipe = Recipe::new()
        .scheme(scheme)
        .calibration(calibration)
        .rule(embedding.calibration("min-max".parse()?));
    Ok(match moments {
        Some(moments) => recipe.moments(moments.clone()),
        None => recipe,
    })
}

/// The second moments of the inputs of all layers, from the whole windows of a text.
fn observe(model: &mut Llama, tokens: &[u32]) -> Result<SecondMoments, Box<dyn Error>> {
    let windows: Vec<&[u32]> = tokens.chunks_exact(WINDOW).collect();
    let forward = |model: &Llama, window: &[u32]| -> Result<(), SmolError> {
        let mut sequence = model.sequence(window.len())?;
        let mut steps = [Step { tokens: window, sequence: &mut sequence }];
        model.forward(&mut steps, Logits::Last, &mut Buffers::default()).map(drop)
    };
    let is_layer = |id: &ParamId| id.as_str().starts_with("blk.");
    // They are shown twice.
    let bar = ProgressBar::new(2 * windows.len() as u64);
    let shown = |model: &Llama, window| forward(model, window).inspect(|()| bar.inc(1));
    Ok(SecondMoments::observe(model, windows.iter().copied(), is_layer, shown)?)
}
