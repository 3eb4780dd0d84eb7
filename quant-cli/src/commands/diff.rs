//! `quant diff`

use std::io::{self, Write};

use quant::Tensor;
use quant::kernel::QuantError;
use quant_formats::{Checkpoint, Entry};
use serde::Serialize;

use crate::Answer;
use crate::args::Diff;
use crate::error::Failure;
use crate::input;
use crate::output::{self, Table, decibels, shape, value};
use crate::progress::Progress;

/// How a tensor of the one file is in the other.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
enum Change {
    /// Stored and valued the same.
    Equal,
    /// Of other values, or the same values stored in another way.
    Changed {
        from: String,
        to: String,
        /// `None` when no value differs.
        sqnr_db: Option<f64>,
        max_abs_error: f32,
        differing: u64,
    },
    Shape {
        from: Vec<usize>,
        to: Vec<usize>,
    },
    Removed {
        shape: Vec<usize>,
    },
    Added {
        shape: Vec<usize>,
    },
}

#[derive(Serialize)]
struct Line {
    name: String,
    #[serde(flatten)]
    change: Change,
}

#[derive(Serialize)]
struct Differences {
    first: String,
    second: String,
    /// Tensors that are not equal.
    differing: usize,
    tensors: Vec<Line>,
    /// Keys of the metadata, and states, that are not equal.
    metadata: Vec<String>,
    states: Vec<String>,
}

pub(crate) fn run(args: &Diff) -> Result<Answer, Failure> {
    let first = input::open_as(&args.first, &args.names)?;
    let second =
        quant_formats::open(&args.second).map_err(|error| Failure::record(&args.second, error))?;
    let differences = compare(&*first, &*second, args)?;
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &differences)?;
    } else {
        differences.print(&mut out, args)?;
    }
    Ok(if differences.differing == 0 { Answer::Yes } else { Answer::No })
}

fn compare(
    first: &dyn Checkpoint,
    second: &dyn Checkpoint,
    args: &Diff,
) -> Result<Differences, Failure> {
    let progress = Progress::over(first);
    let mut tensors = Vec::new();
    for (index, entry) in first.entries().iter().enumerate() {
        let change = match second.position(entry.id.as_str()) {
            None => Change::Removed { shape: entry.shape.clone() },
            Some(other) => {
                let (a, b) = (entry, &second.entries()[other]);
                if a.shape == b.shape {
                    let x =
                        first.read(index).map_err(|error| Failure::record(&args.first, error))?;
                    let y =
                        second.read(other).map_err(|error| Failure::record(&args.second, error))?;
                    change(a, &x, b, &y)
                } else {
                    Change::Shape { from: a.shape.clone(), to: b.shape.clone() }
                }
            }
        };
        progress.advance(4 * entry.element_count() as u64);
        tensors.push(Line { name: entry.id.to_string(), change });
    }
    progress.clear();
    for entry in second.entries() {
        if first.position(entry.id.as_str()).is_none() {
            let change = Change::Added { shape: entry.shape.clone() };
            tensors.push(Line { name: entry.id.to_string(), change });
        }
    }
    Ok(Differences {
        first: args.first.display().to_string(),
        second: args.second.display().to_string(),
        differing: tensors.iter().filter(|line| line.change.counts(args.min_sqnr)).count(),
        tensors,
        metadata: metadata(first, second),
        states: states(first, second, args)?,
    })
}

fn metadata(first: &dyn Checkpoint, second: &dyn Checkpoint) -> Vec<String> {
    let (a, b) = (first.metadata(), second.metadata());
    let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    keys.into_iter().filter(|&key| a.get(key) != b.get(key)).cloned().collect()
}

fn states(
    first: &dyn Checkpoint,
    second: &dyn Checkpoint,
    args: &Diff,
) -> Result<Vec<String>, Failure> {
    let a = first.states().map_err(|error| Failure::record(&args.first, error))?;
    let b = second.states().map_err(|error| Failure::record(&args.second, error))?;
    let of =
        |all: &[quant::record::RecordState], other: &[quant::record::RecordState]| -> Vec<String> {
            let differing = all.iter().filter(|state| !other.contains(state));
            differing.map(|state| state.id.to_string()).collect()
        };
    let mut names = of(&a, &b);
    names.extend(of(&b, &a));
    names.sort();
    names.dedup();
    Ok(names)
}

fn change(a: &Entry, x: &Tensor, b: &Entry, y: &Tensor) -> Change {
    let (from, to) = (a.stored.to_string(), b.stored.to_string());
    let (x, y) = (x.values(), y.values());
    let (mut total, mut differing) = (QuantError::default(), 0);
    for (&x, &y) in x.iter().zip(y.iter()) {
        total.signal += f64::from(x) * f64::from(x);
        if x.to_bits() != y.to_bits() {
            differing += 1;
            // A NaN on one side only is as far as can be.
            let error = (x - y).abs();
            let error = if error.is_nan() { f32::INFINITY } else { error };
            total.largest = total.largest.max(error);
            total.noise += f64::from(x - y) * f64::from(x - y);
        }
    }
    if differing == 0 && from == to {
        return Change::Equal;
    }
    let (sqnr_db, max_abs_error) = (total.sqnr_db(), total.largest);
    Change::Changed { from, to, sqnr_db, max_abs_error, differing }
}

impl Change {
    /// Whether the tensor counts as another one.
    fn counts(&self, min_sqnr: Option<f64>) -> bool {
        match (self, min_sqnr) {
            (Self::Equal, _) => false,
            (Self::Changed { sqnr_db, .. }, Some(least)) => {
                sqnr_db.is_some_and(|db| db.is_nan() || db < least)
            }
            _ => true,
        }
    }
}

impl Differences {
    fn print(&self, out: &mut impl Write, args: &Diff) -> io::Result<()> {
        let mut table = Table::new(["<tensor", "<", "SQNR", "max error", "values differing"]);
        for Line { name, change } in &self.tensors {
            let (what, numbers) = match change {
                Change::Equal if !args.all => continue,
                Change::Equal => ("equal".into(), None),
                Change::Changed { from, to, sqnr_db, max_abs_error, differing } => {
                    let what = if from == to { from.clone() } else { format!("{from} → {to}") };
                    (what, Some((*sqnr_db, *max_abs_error, *differing)))
                }
                Change::Shape { from, to } => (format!("{} → {}", shape(from), shape(to)), None),
                Change::Removed { shape: old } => (format!("only in A: {}", shape(old)), None),
                Change::Added { shape: new } => (format!("only in B: {}", shape(new)), None),
            };
            let [sqnr, error, differing] = match numbers {
                None => [const { String::new() }; 3],
                Some((sqnr, error, n)) => [decibels(sqnr), value(error), n.to_string()],
            };
            let cells = [name.clone(), what, sqnr, error, differing];
            if change.counts(args.min_sqnr) { table.row(cells) } else { table.dim_row(cells) }
        }
        if !table.is_empty() {
            table.print(out)?;
            writeln!(out)?;
        }
        for key in &self.metadata {
            writeln!(out, "metadata differs: {}", key.escape_debug())?;
        }
        for name in &self.states {
            writeln!(out, "state differs: {}", name.escape_debug())?;
        }
        match (self.differing, args.min_sqnr) {
            (0, None) => writeln!(out, "all {} tensors are equal", self.tensors.len()),
            (0, Some(db)) => {
                let n = self.tensors.len();
                writeln!(out, "all {n} tensors are equal, or have at least {db} dB")
            }
            (n, _) => writeln!(out, "{n} of {} tensors differ", self.tensors.len()),
        }
    }
}
