//! `quant diff --logits`

use std::io::{self, Write};
use std::path::Path;

use quant::metrics::{Distribution, LogitsComparison, LogitsSummary, TextSummary};
use serde::Serialize;

use crate::Outcome;
use crate::args::Diff;
use crate::error::Failure;
use crate::npy::{Npy, NpyError};
use crate::output::{self, Table};

#[derive(Serialize)]
struct Figures {
    reference: String,
    other: String,
    positions: usize,
    vocabulary: usize,
    /// The share of positions whose most likely token is the same.
    same_top: f64,
    /// Kullback-Leibler divergences of the reference from the other model, in nats.
    kl: Distribution,
    text: Option<Text>,
}

#[derive(Serialize)]
struct Text {
    reference_perplexity: f64,
    perplexity: f64,
    /// The logarithm of the ratio of both perplexities, and its standard error.
    log_ratio: f64,
    log_ratio_error: f64,
    rms_probability_change: f64,
}

pub(super) fn run(args: &Diff) -> Result<Outcome, Failure> {
    let mut logits = Pair::open(args)?;
    let (positions, vocabulary) = logits.reference.rows();
    let tokens = args.tokens.as_deref().map(|path| read_tokens(path, positions)).transpose()?;
    let mut comparison = LogitsComparison::new();
    let (mut first, mut second, mut equal) = (Vec::new(), Vec::new(), true);
    for position in 0..positions {
        read(&args.first, logits.reference.read_floats(&mut first))?;
        read(&args.second, logits.other.read_floats(&mut second))?;
        equal &= first.iter().zip(&second).all(|(a, b)| a.to_bits() == b.to_bits());
        let token = tokens.as_ref().map(|tokens| tokens[position]);
        comparison.add(&first, &second, token).map_err(|error| {
            let files = format!("{}, {}", args.first.display(), args.second.display());
            Failure::usage(format!("{files}: position {position}: {error}"))
        })?;
    }
    let Some(summary) = comparison.summary() else {
        return Err(Failure::usage(format!("{}: no positions", args.first.display())));
    };
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &Figures::new(args, vocabulary, &summary))?;
    } else {
        print(&mut out, &summary)?;
    }
    Ok(if equal { Outcome::Success } else { Outcome::Difference })
}

struct Pair {
    reference: Npy,
    other: Npy,
}

impl Pair {
    fn open(args: &Diff) -> Result<Self, Failure> {
        let reference = read(&args.first, Npy::open(&args.first))?;
        let other = read(&args.second, Npy::open(&args.second))?;
        let shapes = (reference.shape(), other.shape());
        if shapes.0 != shapes.1 {
            let [first, second] = [&args.first, &args.second].map(|path| path.display());
            let message = format!("{first}: shape {:?}, but {second}: {:?}", shapes.0, shapes.1);
            return Err(Failure::usage(message));
        }
        Ok(Self { reference, other })
    }
}

/// The token that comes next at each position.
fn read_tokens(path: &Path, positions: usize) -> Result<Vec<usize>, Failure> {
    let mut array = read(path, Npy::open(path))?;
    let mut tokens = Vec::new();
    for _ in 0..array.rows().0 {
        tokens.extend(read(path, array.read_integers())?);
    }
    if tokens.len() != positions {
        let message = format!("{} tokens for {positions} positions", tokens.len());
        return Err(Failure::usage(format!("{}: {message}", path.display())));
    }
    let tokens: Option<Vec<usize>> = tokens.into_iter().collect();
    tokens.ok_or_else(|| Failure::usage(format!("{}: a token is negative", path.display())))
}

fn read<T>(path: &Path, result: Result<T, NpyError>) -> Result<T, Failure> {
    result.map_err(|error| Failure::file(path, error))
}

impl Figures {
    fn new(args: &Diff, vocabulary: usize, summary: &LogitsSummary) -> Self {
        Self {
            reference: args.first.display().to_string(),
            other: args.second.display().to_string(),
            positions: summary.positions,
            vocabulary,
            same_top: summary.same_top,
            kl: summary.kl,
            text: summary.text.as_ref().map(Text::new),
        }
    }
}

impl Text {
    fn new(text: &TextSummary) -> Self {
        Self {
            reference_perplexity: text.reference_perplexity,
            perplexity: text.perplexity,
            log_ratio: text.log_ratio.value,
            log_ratio_error: text.log_ratio.error,
            rms_probability_change: text.rms_change,
        }
    }
}

fn print(out: &mut impl Write, summary: &LogitsSummary) -> io::Result<()> {
    let mut table = Table::new(["figure", "value", "± error"]);
    let mut row = |name: &str, value: String, error: String| table.row([name.into(), value, error]);
    let digits = |value: f64| format!("{value:.6}");
    let none = String::new;
    if let Some(text) = &summary.text {
        row("perplexity of the reference", digits(text.reference_perplexity), none());
        row("perplexity", digits(text.perplexity), none());
        row("ln of their ratio", digits(text.log_ratio.value), digits(text.log_ratio.error));
        let change = format!("{:.3} %", 100.0 * text.rms_change);
        row("RMS change of the token's probability", change, none());
    }
    let kl = &summary.kl;
    row("KL divergence, mean", digits(kl.mean), digits(kl.error));
    row("median", digits(kl.median), none());
    row("99 %", digits(kl.percentile_99), none());
    row("99.9 %", digits(kl.percentile_99_9), none());
    row("largest", digits(kl.max), none());
    row("same top token", format!("{:.2} %", 100.0 * summary.same_top), none());
    table.print(out)?;
    writeln!(out, "\n{} positions", summary.positions)
}
