//! `quant verify`

use std::io::{self, Write};
use std::path::Path;

use quant::record::RecordError;
use quant_formats::{Checkpoint, Format};
use serde::Serialize;

use crate::Answer;
use crate::args::Verify;
use crate::error::{Failure, chain};
use crate::output;
use crate::progress::Progress;

#[derive(Serialize)]
struct Verdict {
    path: String,
    format: Option<String>,
    tensors: usize,
    /// Whether the format has checksums.
    checksums: bool,
    damage: Vec<String>,
}

pub(crate) fn run(args: &Verify) -> Result<Answer, Failure> {
    let verdicts: Vec<_> = args.files.iter().map(|path| verify(path)).collect();
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &verdicts)?;
    } else {
        verdicts.iter().try_for_each(|verdict| verdict.print(&mut out))?;
    }
    let damaged = verdicts.iter().any(|verdict| !verdict.damage.is_empty());
    Ok(if damaged { Answer::No } else { Answer::Yes })
}

fn verify(path: &Path) -> Verdict {
    let path_text = path.display().to_string();
    let checkpoint = match quant_formats::open(path) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            let damage = vec![reason(&error)];
            return Verdict { path: path_text, format: None, tensors: 0, checksums: false, damage };
        }
    };
    Verdict {
        path: path_text,
        format: Some(checkpoint.format().to_string()),
        tensors: checkpoint.entries().len(),
        checksums: checkpoint.format() == Format::Record,
        damage: damage(&*checkpoint),
    }
}

fn damage(checkpoint: &dyn Checkpoint) -> Vec<String> {
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

impl Verdict {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { path, tensors, damage, .. } = self;
        if damage.is_empty() && self.checksums {
            return writeln!(out, "{path}: {tensors} tensors, all checksums are right");
        }
        if damage.is_empty() {
            return writeln!(
                out,
                "{path}: {tensors} tensors can be read; the format has no checksums"
            );
        }
        writeln!(out, "{path}: DAMAGED")?;
        damage.iter().try_for_each(|line| writeln!(out, "  {}", line.escape_debug()))
    }
}

/// What is wrong, without the name of the file.
fn reason(error: &RecordError) -> String {
    match error {
        RecordError::Format { source, .. } => chain(source),
        other => chain(other),
    }
}
