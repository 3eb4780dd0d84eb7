//! `quant quantize`

mod blocks;

use std::io::{self, Write};
use std::time::Instant;

use quant::Plan;
use quant_formats::{Format, Inputs};
use serde::Serialize;

use super::plan::{self, Unchanged};
use crate::Outcome;
use crate::args::{Activations, Choice, Quantize};
use crate::error::Failure;
use crate::input::{self, Sources};
use crate::output::{self, note};
use crate::progress::Job;

#[derive(Serialize)]
struct Summary<'a> {
    input: String,
    output: String,
    input_bytes: u64,
    output_bytes: u64,
    seconds: f64,
    plan: &'a Plan,
    unchanged: Vec<Unchanged>,
    notes: Vec<String>,
}

pub(crate) fn run(args: &Quantize) -> Result<Outcome, Failure> {
    let Choice { scheme, preset, recipe, budget, .. } = &args.choice;
    let is_gguf = matches!(Format::of_path(&args.output.path), Ok(Format::Gguf));
    match scheme.encoding {
        Some(encoding) if is_gguf && preset.is_none() && recipe.is_none() && budget.is_none() => {
            blocks::run(args, encoding)
        }
        _ => quantize(args),
    }
}

fn quantize(args: &Quantize) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let (from, to) = (&args.input.path, &args.output.path);
    let checkpoint = input::open(&args.input)?;
    let folder = input::is_folder(to);
    if !folder {
        Sources::of(&checkpoint).and(args.choice.files()).check_checkpoint(to)?;
        if args.activations.is_some() {
            return Err(Failure::usage("--activations is for model directories")
                .help("name a directory with --output"));
        }
    }
    let job = Job::new();
    let chosen = plan::planner(&checkpoint, from, &args.choice, &job, &args.work)?;
    let plan = job
        .run(&checkpoint, &args.work, args.output.max_shard_size, |mut options| {
            options.requantize = args.choice.requantize;
            if folder {
                let inputs = inputs(args.activations.unwrap_or_default());
                quant_formats::quantize_folder(&checkpoint, &*chosen.planner, inputs, to, options)
            } else {
                quant_formats::quantize(&checkpoint, &*chosen.planner, to, options)
            }
        })
        .map_err(|error| Failure::written(from, to, folder, Some(&args.choice), error))?;
    let seconds = started.elapsed().as_secs_f64();
    let unchanged = Unchanged::of(&checkpoint, &args.choice);
    let mut out = io::stdout().lock();
    if args.json {
        let summary = Summary {
            input: from.display().to_string(),
            output: to.display().to_string(),
            input_bytes: input::len(&checkpoint)?,
            output_bytes: input::len_at(to)?,
            seconds,
            plan: &plan,
            unchanged,
            notes: chosen.notes,
        };
        output::json(&mut out, &summary)?;
    } else {
        chosen.notes.iter().for_each(|text| note(text));
        plan::note_warnings(&plan);
        writeln!(out, "{}", plan::summary(&plan, "quantized"))?;
        Unchanged::print(&unchanged, &mut out)?;
        writeln!(out, "{}: written in {seconds:.2} s", to.display())?;
    }
    Ok(Outcome::Success)
}

fn inputs(activations: Activations) -> Inputs {
    match activations {
        Activations::Float => Inputs::Float,
        Activations::Dynamic => Inputs::Dynamic,
    }
}
