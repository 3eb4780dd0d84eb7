//! The arguments of every command.

use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quant::QuantizationScheme;
use quant::calibration::CalibrationMethod;
use quant::quantize::mixed::{Budget, Precision};
use quant::quantize::{ByteSize, Preset};
use quant::scheme::NameError;
use quant_formats::GgufEncoding;

const AFTER_HELP: &str = "\
Examples:
  quant inspect model.safetensors
  quant plan model.safetensors --budget 30% --write-recipe recipe.toml
  quant quantize model.safetensors -o model.quant --recipe recipe.toml
  quant quantize model.safetensors -o clipped.quant --calibration percentile:99.9 --keep '**.head.*'
  quant quantize model.safetensors -o model.gguf --scheme q8_0
  quant quantize model.safetensors -o w4.quant --calibration gptq --moments m.safetensors
  quant quantize model.safetensors -o int8-model --activations dynamic
  quant diff model.safetensors model.quant --min-sqnr 10
  quant report model.safetensors --against model.quant

Files: records (.quant), safetensors (.safetensors, or the .safetensors.index.json of shards), GGUF \
(.gguf) and JSON (.json). The content of an input decides its format, the extension of an output decides that \
of the output. A directory is a model as transformers, vLLM and SGLang have it: shards, an index, \
config.json and other files. An output keeps its old content until the new content is complete.

Sizes: kB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB powers of 1024. Printed sizes \
are decimal.

Exit codes: 0 success; 1 a difference or damage was found; 2 invalid arguments, or a recipe or \
pattern that does not fit the checkpoint; 3 a file cannot be read or written; 130 interrupted. \
With --json, an error is a JSON object on standard error.";

/// Quantize, inspect, compare and convert checkpoints of neural networks.
#[derive(Parser)]
#[command(name = "quant", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the tensors of a checkpoint as a tree, with shapes, types, ranges and sizes
    Inspect(Inspect),
    /// Show what `quantize` would do to every tensor, without writing anything
    Plan(Plan),
    /// Quantize a checkpoint
    Quantize(Quantize),
    /// Convert every quantized tensor of a checkpoint to float
    Dequantize(Copy),
    /// Copy a checkpoint to another format
    Convert(Copy),
    /// Compare two checkpoints tensor by tensor
    Diff(Diff),
    /// Compare the checksums of checkpoints with their bytes
    Verify(Verify),
    /// Write an HTML page that shows what quantization does to every tensor
    Report(Report),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one page for each command to a directory
    Man {
        /// An existing directory
        directory: Option<PathBuf>,
    },
}

impl Command {
    /// Whether results and errors are printed as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Inspect(args) => args.json,
            Self::Plan(args) => args.json,
            Self::Quantize(args) => args.json,
            Self::Dequantize(args) | Self::Convert(args) => args.json,
            Self::Diff(args) => args.json,
            Self::Verify(args) => args.json,
            Self::Report(args) => args.json,
            Self::Completions { .. } | Self::Man { .. } => false,
        }
    }
}

/// A checkpoint, and how its tensors are renamed.
#[derive(Args)]
pub(crate) struct Input {
    /// The checkpoint to read
    #[arg(value_name = "IN")]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Args)]
pub(crate) struct Names {
    /// Replace every match of a regular expression in the names of tensors; $1 or ${1} stands for
    /// its first group. May be repeated: rules apply in order
    #[arg(long, num_args = 2, value_names = ["REGEX", "REPLACEMENT"], action = clap::ArgAction::Append)]
    pub(crate) rename: Vec<String>,

    /// Leave out tensors whose name, before renaming, matches a pattern as of --keep. May be
    /// repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) omit: Vec<String>,

    /// Take the tensors of safetensors shards from the shards, where their index differs
    #[arg(long)]
    pub(crate) ignore_index: bool,
}

/// How tensors are quantized.
#[derive(Args)]
pub(crate) struct Choice {
    /// The scheme of tensors with two or more axes, such as per-tensor-affine-int8 or
    /// per-block-symmetric-int4:len=32; for a GGUF file `q8_0`, `q4_0` or `q4_1`
    #[arg(long, value_name = "SCHEME", default_value = "per-channel-symmetric-int8")]
    pub(crate) scheme: Scheme,

    /// What quantized models usually are: w8a8, w4a8, w4 or w3. Embeddings, output layers, routers, and the
    /// first and last layer are kept wider, as `quant plan` shows
    #[arg(long, value_name = "NAME", conflicts_with = "scheme")]
    pub(crate) preset: Option<Preset>,

    /// How ranges are found: min-max, mse, percentile:99.9, entropy, least-squares [default: min-max].
    /// Over minimums also hqq; with --moments also weighted-mse, gptq and gptq:descending
    #[arg(long, value_name = "METHOD")]
    pub(crate) calibration: Option<CalibrationMethod>,

    /// The second moments of the inputs of layers, by which errors are weighed: a file of
    /// `quant_formats::write_moments`, or an importance matrix of llama.cpp in GGUF
    #[arg(long, value_name = "FILE")]
    pub(crate) moments: Option<PathBuf>,

    /// Keep tensors float whose name matches a pattern: * matches within a part between dots, **
    /// any number of parts. May be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) keep: Vec<String>,

    /// Read schemes, calibrations and rules from a recipe in TOML
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scheme", "preset", "calibration", "keep"])]
    pub(crate) recipe: Option<PathBuf>,

    /// Quantize tensors that are quantized already, from the floats that they stand for. Otherwise
    /// they are copied unchanged, and those that another program has quantized are an error
    #[arg(long)]
    pub(crate) requantize: bool,

    /// Choose a scheme for each tensor so that the sum of squared errors is minimal and all tensors
    /// take at most this size: 45%, 24MB, 16MiB
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["scheme", "preset", "calibration"])]
    pub(crate) budget: Option<Budget>,

    /// What --budget chooses from: schemes, each `by` a calibration other than min-max if named,
    /// and float
    #[arg(
        long,
        value_name = "SCHEME,…",
        value_delimiter = ',',
        requires = "budget",
        default_values = [
            "float",
            "per-channel-symmetric-int8",
            "per-block-symmetric-int4 by mse",
            "per-block-symmetric-int2 by mse",
        ]
    )]
    pub(crate) schemes: Vec<Precision>,
}

impl Choice {
    /// The files that are read to choose.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.recipe.iter().chain(&self.moments)
    }
}

/// What floats are quantized to. In a GGUF file, `q8_0`, `q4_0` and `q4_1` stand for blocks as
/// llama.cpp makes them, and elsewhere for the scheme of the same name.
#[derive(Clone, Copy)]
pub(crate) struct Scheme {
    pub(crate) quantization: QuantizationScheme,
    pub(crate) encoding: Option<GgufEncoding>,
}

impl FromStr for Scheme {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Ok(Self { quantization: name.parse()?, encoding: name.parse().ok() })
    }
}

#[derive(Args)]
pub(crate) struct Work {
    /// The number of threads, at most 4 for each CPU [default: one for each CPU]
    #[arg(long, short, value_name = "N")]
    pub(crate) jobs: Option<NonZero<usize>>,

    /// The memory to use at most, such as 256MB
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_memory: Option<ByteSize>,
}

#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) input: Input,

    /// Do not read values: no ranges, no checksums
    #[arg(long)]
    pub(crate) quick: bool,

    /// Show this many levels of the tree, and totals for what lies deeper
    #[arg(long, value_name = "N", conflicts_with = "json")]
    pub(crate) depth: Option<NonZero<usize>>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) input: Input,

    #[command(flatten)]
    pub(crate) choice: Choice,

    #[command(flatten)]
    pub(crate) work: Work,

    /// Do not read values: no errors, no warnings, and no search for equal tensors
    #[arg(long, conflicts_with_all = ["budget", "jobs", "max_memory"])]
    pub(crate) quick: bool,

    /// Write the plan as a recipe, which `quantize` accepts
    #[arg(long, value_name = "FILE")]
    pub(crate) write_recipe: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Quantize {
    #[command(flatten)]
    pub(crate) input: Input,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) choice: Choice,

    /// What engines do with the inputs of quantized layers; for model directories
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) activations: Option<Activations>,

    #[command(flatten)]
    pub(crate) work: Work,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How engines treat the inputs of layers whose weights are quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Activations {
    /// They stay float
    #[default]
    Float,
    /// They are quantized to 8 bits, by the range of each token
    Dynamic,
}

#[derive(Args)]
pub(crate) struct Output {
    /// The file to write: .quant, .safetensors, .gguf or .json; or a new directory, for a model as
    /// engines load it
    #[arg(id = "output", long, short, value_name = "OUT")]
    pub(crate) path: PathBuf,

    /// Write a record or a model directory as shards of at most this size, such as 2GB, and an index
    /// of them [default for directories: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = shard_size, alias = "max-part-size")]
    pub(crate) max_shard_size: Option<ByteSize>,
}

#[derive(Args)]
pub(crate) struct Copy {
    #[command(flatten)]
    pub(crate) input: Input,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) work: Work,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Diff {
    /// The first checkpoint; --rename and --omit apply to it
    #[arg(value_name = "A")]
    pub(crate) first: PathBuf,

    /// The second checkpoint
    #[arg(value_name = "B")]
    pub(crate) second: PathBuf,

    #[command(flatten)]
    pub(crate) names: Names,

    /// Accept changed tensors whose signal-to-noise ratio is at least this many dB
    #[arg(long, value_name = "DB", value_parser = decibels)]
    pub(crate) min_sqnr: Option<f64>,

    /// Compare logits of language models: A, of the reference, and B are arrays (.npy) with
    /// a row of logits for each position
    #[arg(long, conflicts_with_all = ["rename", "omit", "ignore_index", "min_sqnr", "all"])]
    pub(crate) logits: bool,

    /// The token that comes next at each position, an array of integers (.npy), for perplexities
    #[arg(long, value_name = "FILE", requires = "logits")]
    pub(crate) tokens: Option<PathBuf>,

    /// Show equal tensors, too
    #[arg(long, conflicts_with = "json")]
    pub(crate) all: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The checkpoints
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Take the tensors of safetensors shards from the shards, where their index differs
    #[arg(long)]
    pub(crate) ignore_index: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Report {
    #[command(flatten)]
    pub(crate) input: Input,

    /// The page to write
    #[arg(long, short, value_name = "PAGE", default_value = "report.html")]
    pub(crate) output: PathBuf,

    /// Compare with this quantized checkpoint instead of quantizing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scheme", "preset", "recipe", "calibration", "moments", "keep", "budget", "schemes", "requantize"])]
    pub(crate) against: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) choice: Choice,

    /// Show the outputs of layers, too: a `LayerComparison` of the library as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) layers: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) work: Work,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parses a ratio in dB, which NaN is not.
fn decibels(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("expected a finite number".into()),
    }
}

fn shard_size(text: &str) -> Result<ByteSize, String> {
    match text.parse() {
        Ok(ByteSize(0)) => Err("a shard has at least one byte".into()),
        Ok(size) => Ok(size),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_definition_of_the_arguments_is_consistent() {
        Cli::command().debug_assert();
    }
}
