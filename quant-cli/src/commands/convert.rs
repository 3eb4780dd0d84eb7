//! `quant convert`, and the copying that `quant dequantize` shares.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use quant_formats::{Checkpoint, CheckpointError, Inputs, Options};
use serde::Serialize;

use crate::Outcome;
use crate::args::Copy;
use crate::error::Failure;
use crate::input::{self, Sources};
use crate::output::{self, bytes};
use crate::progress::Job;

pub(crate) fn run(args: &Copy) -> Result<Outcome, Failure> {
    copy(args, |from, to, options| match input::is_folder(to) {
        true => quant_formats::convert_folder(from, Inputs::Float, to, options),
        false => quant_formats::convert(from, to, options),
    })
}

#[derive(Serialize)]
struct Summary {
    input: String,
    output: String,
    tensors: usize,
    input_bytes: u64,
    output_bytes: u64,
    seconds: f64,
}

/// Copies a checkpoint by `write`, and prints a summary.
pub(super) fn copy(
    args: &Copy,
    write: impl FnOnce(&Checkpoint, &Path, Options<'_>) -> Result<(), CheckpointError>,
) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let (from, to) = (&args.input.path, &args.output.path);
    let checkpoint = input::open(&args.input)?;
    let folder = input::is_folder(to);
    if !folder {
        Sources::of(&checkpoint).check_checkpoint(to)?;
    }
    Job::new()
        .run(&checkpoint, &args.work, args.output.max_shard_size, |options| {
            write(&checkpoint, to, options)
        })
        .map_err(|error| Failure::written(from, to, folder, None, error))?;
    let summary = Summary {
        input: from.display().to_string(),
        output: to.display().to_string(),
        tensors: checkpoint.entries().len(),
        input_bytes: input::len(&checkpoint)?,
        output_bytes: input::len_at(to)?,
        seconds: started.elapsed().as_secs_f64(),
    };
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &summary)?;
    } else {
        let Summary { output, tensors, input_bytes, output_bytes, seconds, .. } = summary;
        let (before, after) = (bytes(input_bytes), bytes(output_bytes));
        writeln!(out, "{output}: {tensors} tensors, {before} to {after}, in {seconds:.2} s")?;
    }
    Ok(Outcome::Success)
}
