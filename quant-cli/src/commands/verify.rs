//! `quant verify`

use std::io::{self, Write};
use std::path::Path;

use quant::RecordError;
use quant_formats::{Checkpoint, Format, FormatError};
use serde::Serialize;

use crate::Outcome;
use crate::args::Verify;
use crate::error::{Failure, chain};
use crate::input;
use crate::output::{self, printable_line};
use crate::progress::Progress;
use crate::signals;

#[derive(Serialize)]
struct Verdict {
    path: String,
    format: Option<String>,
    tensors: usize,
    /// Whether the format has checksums.
    checksums: bool,
    damage: Vec<String>,
}

pub(crate) fn run(args: &Verify) -> Result<Outcome, Failure> {
    signals::exit_at_once();
    let mut verdicts = Vec::new();
    // A file that cannot be read is an error, once the others have been verified.
    let mut unreadable = None;
    for path in &args.files {
        match verify(path, args.ignore_index) {
            Ok(verdict) => verdicts.push(verdict),
            Err(failure) => unreadable = unreadable.or(Some(failure)),
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &verdicts)?;
    } else {
        verdicts.iter().try_for_each(|verdict| verdict.print(&mut out))?;
    }
    match unreadable {
        Some(failure) => Err(failure),
        None if verdicts.iter().all(|verdict| verdict.damage.is_empty()) => Ok(Outcome::Success),
        None => Ok(Outcome::Difference),
    }
}

fn verify(path: &Path, ignore_index: bool) -> Result<Verdict, Failure> {
    let name = path.display().to_string();
    match input::try_open(path, ignore_index) {
        Ok(checkpoint) => Ok(Verdict {
            path: name,
            format: Some(checkpoint.format().to_string()),
            tensors: checkpoint.entries().len(),
            checksums: checkpoint.format() == Format::Record,
            damage: damage(&checkpoint),
        }),
        Err(error) if is_unreadable(&error) => Err(Failure::record(path, error)),
        Err(error) => {
            let damage = vec![reason(&error)];
            Ok(Verdict { path: name, format: None, tensors: 0, checksums: false, damage })
        }
    }
}

/// Whether an error says nothing about the content of a file.
fn is_unreadable(error: &RecordError) -> bool {
    match error {
        RecordError::Io { .. } => true,
        RecordError::Recorder { source, .. } => {
            matches!(source.downcast_ref(), Some(FormatError::Directory { .. }))
        }
        _ => false,
    }
}

fn damage(checkpoint: &Checkpoint) -> Vec<String> {
    let progress = Progress::over(checkpoint);
    let mut damage = Vec::new();
    for (index, entry) in checkpoint.entries().iter().enumerate() {
        damage.extend(checkpoint.verify(index).err().map(|error| reason(&error)));
        progress.advance(4 * entry.element_count() as u64);
    }
    progress.clear();
    damage.extend(checkpoint.states().err().map(|error| reason(&error)));
    damage
}

/// What is wrong, without the name of the file.
fn reason(error: &RecordError) -> String {
    match error {
        RecordError::Format { source, .. } => chain(source),
        other => chain(other),
    }
}

impl Verdict {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { path, tensors, damage, .. } = self;
        if !damage.is_empty() {
            writeln!(out, "{path}: DAMAGED")?;
            return damage.iter().try_for_each(|line| writeln!(out, "  {}", printable_line(line)));
        }
        let result = if self.checksums {
            "all checksums match"
        } else {
            "all can be read; the format has no checksums"
        };
        writeln!(out, "{path}: {tensors} tensors, {result}")
    }
}
