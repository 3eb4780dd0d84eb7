//! What can be asked for.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use quant::{Budget, CalibrationMethod, Precision, QuantizationScheme};

const AFTER_HELP: &str = "\
Files: a record of this library (.quant), safetensors (.safetensors, or the .index.json of one in \
parts), or JSON (.json). What is read is recognized by its content, what is written by its \
extension. A file that is written has its old content, or none, until the new one is complete.

Exit codes: 0 done; 1 a difference or damage was found; 2 wrong arguments or a recipe that does \
not fit; 3 a file cannot be read or written; 130 interrupted.";

/// Quantize, inspect, compare and convert checkpoints of neural networks.
#[derive(Parser)]
#[command(name = "quant", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show what a checkpoint holds: a tree of tensors with shapes, types, ranges and sizes
    Inspect(Inspect),
    /// Show what quantizing would do to every tensor, without doing it
    Plan(Plan),
    /// Quantize a checkpoint
    Quantize(Quantize),
    /// Make every quantized tensor float again
    Dequantize(Copy),
    /// Copy a checkpoint into another format
    Convert(Copy),
    /// Compare two checkpoints tensor by tensor: what is missing, noise ratio, largest error
    Diff(Diff),
    /// Compare all checksums with the bytes
    Verify(Verify),
    /// Write a page that shows what quantization does to every tensor
    Report(Report),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// The directory
        directory: Option<PathBuf>,
    },
}

/// A checkpoint, under other names if asked.
#[derive(Args)]
pub(crate) struct Input {
    /// The checkpoint
    #[arg(value_name = "IN")]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Args)]
pub(crate) struct Names {
    /// Replace what matches a regular expression in the names of tensors ($1 or ${1}: the first
    /// group); may be given several times, each rule sees what those before it made
    #[arg(long, num_args = 2, value_names = ["PATTERN", "REPLACEMENT"], action = clap::ArgAction::Append)]
    pub(crate) rename: Vec<String>,

    /// Leave out tensors whose name matches a regular expression
    #[arg(long, value_name = "PATTERN")]
    pub(crate) omit: Vec<String>,
}

/// How tensors are quantized.
#[derive(Args)]
pub(crate) struct Choice {
    /// How tensors of two axes and more are quantized, such as per-tensor-affine-int8 or
    /// per-block-symmetric-int4:len=32
    #[arg(long, value_name = "SCHEME", default_value = "per-channel-symmetric-int8")]
    pub(crate) scheme: QuantizationScheme,

    /// How ranges are found: min-max, mse, percentile=99.9, entropy
    #[arg(long, value_name = "METHOD")]
    pub(crate) calibration: Option<CalibrationMethod>,

    /// Leave tensors whose path matches a pattern float (*: within a step, **: any steps); may be
    /// given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) keep: Vec<String>,

    /// A recipe in TOML that says it all, by rules
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scheme", "calibration", "keep"])]
    pub(crate) recipe: Option<PathBuf>,

    /// Choose a scheme for each tensor that makes the expected error least within this size of all
    /// tensors: 45%, 24MB, 16MiB
    #[arg(long, value_name = "SIZE", conflicts_with = "scheme")]
    pub(crate) budget: Option<Budget>,

    /// What the budget is spent on: schemes, each with its calibration if not min-max, and float
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

#[derive(Args)]
pub(crate) struct Work {
    /// The number of threads [default: all of the machine's]
    #[arg(long, short, value_name = "N")]
    pub(crate) jobs: Option<NonZero<usize>>,

    /// The most memory to take, such as 256MiB
    #[arg(long, value_name = "SIZE", value_parser = super::output::parse_bytes)]
    pub(crate) max_memory: Option<u64>,
}

#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) input: Input,

    /// Do not read values: no ranges, no checksums
    #[arg(long)]
    pub(crate) quick: bool,

    /// Show this many steps of each path, and sums below
    #[arg(long, value_name = "N")]
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

    /// Write the choice as a recipe, to be read, changed and used again
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

    #[command(flatten)]
    pub(crate) work: Work,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Output {
    /// The file to write: .quant, .safetensors or .json
    #[arg(long, short, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// Write a record in parts of at most this size, such as 2GB, and an index of them
    #[arg(long, value_name = "SIZE", value_parser = super::output::parse_bytes)]
    pub(crate) max_part_size: Option<u64>,
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
    /// The one
    #[arg(value_name = "A")]
    pub(crate) first: PathBuf,

    /// The other
    #[arg(value_name = "B")]
    pub(crate) second: PathBuf,

    /// Rename the tensors of A; see `quant inspect --help`
    #[command(flatten)]
    pub(crate) names: Names,

    /// Let tensors pass as equal whose signal-to-noise ratio is at least this many dB
    #[arg(long, value_name = "DB")]
    pub(crate) min_sqnr: Option<f64>,

    /// Show tensors that are equal, too
    #[arg(long)]
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

    /// Compare with this quantized checkpoint, in place of quantizing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scheme", "recipe", "calibration", "keep", "budget"])]
    pub(crate) against: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) choice: Choice,

    #[command(flatten)]
    pub(crate) work: Work,
}
