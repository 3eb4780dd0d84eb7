//! `quant quantize`

use std::io::{self, Write};
use std::time::Instant;

use serde::Serialize;

use super::plan;
use crate::Answer;
use crate::args::Quantize;
use crate::error::Failure;
use crate::progress::Progress;
use crate::{input, output};

pub(crate) fn run(args: &Quantize) -> Result<Answer, Failure> {
    let begun = Instant::now();
    let (from, to) = (&args.input.path, &args.output.output);
    let checkpoint = input::open(&args.input)?;
    input::check_output(from, to)?;
    let planner = plan::planner(&*checkpoint, from, &args.choice, &args.work)?;
    let part = args.output.max_part_size;
    let plan = Progress::over(&*checkpoint)
        .run(&args.work, part, |options| {
            quant_formats::quantize(&*checkpoint, &*planner, to, options)
        })
        .map_err(|error| Failure::checkpoint(from, Some(to), error))?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut out = io::stdout().lock();
    if args.json {
        let summary = Summary {
            input: from.display().to_string(),
            output: to.display().to_string(),
            input_bytes: input::len(from)?,
            output_bytes: input::len(to)?,
            seconds,
            plan: &plan,
        };
        output::json(&mut out, &summary)?;
    } else {
        writeln!(out, "{}", plan::summary(&plan))?;
        writeln!(out, "{}: written in {seconds:.2} s", to.display())?;
    }
    Ok(Answer::Yes)
}

#[derive(Serialize)]
struct Summary<'a> {
    input: String,
    output: String,
    input_bytes: u64,
    output_bytes: u64,
    seconds: f64,
    plan: &'a quant::Plan,
}
