//! `quant diff`

mod logits;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::Path;

use quant::RecordError;
use quant::Tensor;
use quant::kernel::QuantError;
use quant::record::RecordState;
use quant_formats::{Checkpoint, Entry};
use serde::Serialize;

use crate::Outcome;
use crate::args::Diff;
use crate::error::Failure;
use crate::input;
use crate::output::{self, Table, decibels, printable_line, shape, value};
use crate::progress::Progress;
use crate::signals;

/// How a tensor of the first checkpoint differs from that of the second.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
enum Change {
    /// The same type and the same bits.
    Equal,
    /// Other values, or the same values in another type.
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
    /// The number of tensors that differ.
    differing: usize,
    tensors: Vec<Line>,
    /// The keys of metadata that differ.
    metadata: Vec<String>,
    /// The names of states that differ, such as tensors of integers.
    states: Vec<String>,
}

pub(crate) fn run(args: &Diff) -> Result<Outcome, Failure> {
    signals::exit_at_once();
    if args.logits {
        return logits::run(args);
    }
    let first = Side::new(&args.first, input::open_as(&args.first, &args.names)?);
    let second = Side::new(&args.second, input::open_path(&args.second, &args.names)?);
    let differences = Differences::find(&first, &second, args.min_sqnr)?;
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &differences)?;
    } else {
        differences.print(&mut out, args)?;
    }
    Ok(if differences.is_empty() { Outcome::Success } else { Outcome::Difference })
}

/// One of the checkpoints.
struct Side<'a> {
    path: &'a Path,
    checkpoint: Checkpoint,
}

impl<'a> Side<'a> {
    fn new(path: &'a Path, checkpoint: Checkpoint) -> Self {
        Self { path, checkpoint }
    }

    fn entry(&self, index: usize) -> &Entry {
        &self.checkpoint.entries()[index]
    }

    fn read(&self, index: usize) -> Result<Tensor, Failure> {
        self.checkpoint.read(index).map_err(|error| self.failure(error))
    }

    fn states(&self) -> Result<HashMap<String, RecordState>, Failure> {
        let states = self.checkpoint.states().map_err(|error| self.failure(error))?;
        Ok(states.into_iter().map(|state| (state.id.to_string(), state)).collect())
    }

    fn failure(&self, error: RecordError) -> Failure {
        Failure::record(self.path, error)
    }
}

impl Differences {
    fn find(first: &Side<'_>, second: &Side<'_>, min_sqnr: Option<f64>) -> Result<Self, Failure> {
        let mut tensors = common_or_removed(first, second)?;
        tensors.extend(added(first, second));
        Ok(Self {
            first: first.path.display().to_string(),
            second: second.path.display().to_string(),
            differing: tensors.iter().filter(|line| line.change.counts(min_sqnr)).count(),
            tensors,
            metadata: differing_metadata(&first.checkpoint, &second.checkpoint),
            states: differing_states(&first.states()?, &second.states()?),
        })
    }

    fn is_empty(&self) -> bool {
        self.differing == 0 && self.metadata.is_empty() && self.states.is_empty()
    }
}

/// The tensors of the first checkpoint.
fn common_or_removed(first: &Side<'_>, second: &Side<'_>) -> Result<Vec<Line>, Failure> {
    let progress = Progress::over(&first.checkpoint);
    let mut lines = Vec::new();
    for (index, entry) in first.checkpoint.entries().iter().enumerate() {
        let change = match second.checkpoint.position(entry.id.as_str()) {
            None => Change::Removed { shape: entry.shape.clone() },
            Some(other) if second.entry(other).shape != entry.shape => {
                Change::Shape { from: entry.shape.clone(), to: second.entry(other).shape.clone() }
            }
            Some(other) => Change::between(
                (entry, &first.read(index)?),
                (second.entry(other), &second.read(other)?),
            ),
        };
        progress.advance(4 * entry.element_count() as u64);
        lines.push(Line { name: entry.id.to_string(), change });
    }
    progress.clear();
    Ok(lines)
}

/// The tensors that only the second checkpoint has.
fn added(first: &Side<'_>, second: &Side<'_>) -> impl Iterator<Item = Line> {
    let entries = second.checkpoint.entries().iter();
    let added = entries.filter(|it| first.checkpoint.position(it.id.as_str()).is_none());
    added.map(|entry| Line {
        name: entry.id.to_string(),
        change: Change::Added { shape: entry.shape.clone() },
    })
}

fn differing_metadata(first: &Checkpoint, second: &Checkpoint) -> Vec<String> {
    let (a, b) = (first.metadata(), second.metadata());
    let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    keys.into_iter().filter(|&key| a.get(key) != b.get(key)).cloned().collect()
}

fn differing_states(
    a: &HashMap<String, RecordState>,
    b: &HashMap<String, RecordState>,
) -> Vec<String> {
    let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|&name| a.get(name) != b.get(name)).cloned().collect()
}

impl Change {
    /// The change between two tensors of one shape.
    fn between((a, x): (&Entry, &Tensor), (b, y): (&Entry, &Tensor)) -> Self {
        let (from, to) = (a.stored.to_string(), b.stored.to_string());
        let (x, y) = (x.values(), y.values());
        let (mut stats, mut differing) = (QuantError::default(), 0);
        for (&x, &y) in x.iter().zip(y.iter()) {
            stats.signal += f64::from(x) * f64::from(x);
            if x.to_bits() != y.to_bits() {
                differing += 1;
                // A NaN on one side only is the largest of all errors.
                let error = (x - y).abs();
                let error = if error.is_nan() { f32::INFINITY } else { error };
                stats.largest = stats.largest.max(error);
                stats.noise += f64::from(x - y) * f64::from(x - y);
            }
        }
        if differing == 0 && from == to {
            return Self::Equal;
        }
        let (sqnr_db, max_abs_error) = (stats.sqnr_db(), stats.largest);
        Self::Changed { from, to, sqnr_db, max_abs_error, differing }
    }

    /// Whether the tensor counts as different.
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
        let mut table = Table::new(["<tensor", "<change", "SQNR", "max error", "values differing"]);
        for line in &self.tensors {
            if args.all || !matches!(line.change, Change::Equal) {
                let cells = line.cells();
                let differs = line.change.counts(args.min_sqnr);
                if differs { table.row(cells) } else { table.dim_row(cells) }
            }
        }
        if !table.is_empty() {
            table.print(out)?;
            writeln!(out)?;
        }
        for key in &self.metadata {
            writeln!(out, "metadata differs: {}", printable_line(key))?;
        }
        for name in &self.states {
            writeln!(out, "state differs: {}", printable_line(name))?;
        }
        self.print_summary(out, args.min_sqnr)
    }

    fn print_summary(&self, out: &mut impl Write, min_sqnr: Option<f64>) -> io::Result<()> {
        let total = self.tensors.len();
        match (self.differing, min_sqnr) {
            (0, None) => write!(out, "{total} of {total} tensors are equal")?,
            (0, Some(db)) => {
                write!(out, "{total} of {total} tensors are equal or have at least {db} dB")?;
            }
            (n, _) => write!(out, "{n} of {total} tensors differ")?,
        }
        match self.metadata.len() + self.states.len() {
            0 => writeln!(out),
            others => writeln!(out, "; {others} differences in metadata and states"),
        }
    }
}

impl Line {
    fn cells(&self) -> [String; 5] {
        let (what, numbers) = match &self.change {
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
        [self.name.clone(), what, sqnr, error, differing]
    }
}
