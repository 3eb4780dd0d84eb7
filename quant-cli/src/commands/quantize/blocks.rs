//! `quant quantize --scheme q8_0`: blocks as of llama.cpp.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;

use quant::ParamId;
use quant::quantize::Warning;
use quant_formats::{Encoded, GgufEncoding};
use serde::Serialize;

use crate::Outcome;
use crate::args::Quantize;
use crate::error::Failure;
use crate::input::{self, Sources};
use crate::output::{self, bytes, note, percentage, printable_line};
use crate::progress::Job;

#[derive(Serialize)]
struct Summary {
    input: String,
    output: String,
    input_bytes: u64,
    output_bytes: u64,
    seconds: f64,
    scheme: String,
    tensors: usize,
    quantized: usize,
    /// Tensors that stay float because their rows do not consist of whole blocks.
    ragged: Vec<String>,
    /// Tensors that stay float, with the number of their values that are NaN or infinite.
    non_finite: BTreeMap<String, u64>,
}

pub(super) fn run(args: &Quantize, encoding: GgufEncoding) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let (from, to) = (&args.input.path, &args.output.path);
    let recipe = input::recipe_of_blocks(&args.choice)?;
    let checkpoint = input::open(&args.input)?;
    Sources::of(&checkpoint).check_checkpoint(to)?;
    let encoded = Job::new()
        .run(&checkpoint, &args.work, args.output.max_shard_size, |mut options| {
            options.requantize = args.choice.requantize;
            quant_formats::quantize_to_blocks(&checkpoint, encoding, &recipe, to, options)
        })
        .map_err(|error| Failure::checkpoint(from, Some(to), Some(&args.choice), error))?;
    let seconds = started.elapsed().as_secs_f64();
    let mut out = io::stdout().lock();
    if args.json {
        let summary = Summary {
            input: from.display().to_string(),
            output: to.display().to_string(),
            input_bytes: input::len(&checkpoint)?,
            output_bytes: input::len_at(to)?,
            seconds,
            scheme: encoding.to_string(),
            tensors: encoded.tensors,
            quantized: encoded.quantized,
            ragged: encoded.ragged.iter().map(ToString::to_string).collect(),
            non_finite: encoded.non_finite.iter().map(|(id, n)| (id.to_string(), *n)).collect(),
        };
        output::json(&mut out, &summary)?;
        return Ok(Outcome::Success);
    }
    for (id, count) in &encoded.non_finite {
        note(&format!("{id}: {}", Warning::NonFinite { count: *count }));
    }
    let Encoded { quantized, tensors, bytes_before, bytes_after, ref ragged, .. } = encoded;
    let (before, after) = (bytes(bytes_before), bytes(bytes_after));
    let share = percentage(bytes_after, bytes_before);
    writeln!(
        out,
        "{quantized} of {tensors} tensors to {encoding}: {before} become {after} ({share})"
    )?;
    print_ragged(ragged, encoding.ty().block_len(), &mut out)?;
    writeln!(out, "{}: written in {seconds:.2} s", to.display())?;
    Ok(Outcome::Success)
}

/// Prints a line, if tensors stay float that were to be quantized.
fn print_ragged(ragged: &[ParamId], block: usize, out: &mut impl Write) -> io::Result<()> {
    let Some(first) = ragged.first() else { return Ok(()) };
    let name = printable_line(first.as_str());
    let reason = format!("rows are not multiples of {block}");
    match ragged.len() {
        1 => writeln!(out, "1 tensor stays float: {name}, whose {reason}"),
        n => writeln!(out, "{n} tensors stay float, such as {name}: their {reason}"),
    }
}
