//! `quant report`

use std::io::{self, Write};

use quant_formats::Options;
use quant_formats::report;

use super::plan;
use crate::Answer;
use crate::args::Report;
use crate::error::Failure;
use crate::progress::Progress;
use crate::{input, output};

pub(crate) fn run(args: &Report) -> Result<Answer, Failure> {
    let from = &args.input.path;
    let checkpoint = input::open(&args.input)?;
    let progress = Progress::over(&*checkpoint);
    let (tensors, how) = match &args.against {
        Some(path) => {
            let quantized =
                quant_formats::open(path).map_err(|error| Failure::record(path, error))?;
            let run =
                |options: Options<'_>| report::tensors_against(&*checkpoint, &*quantized, options);
            (progress.run(&args.work, None, run), path.display().to_string())
        }
        None => {
            let planner = plan::planner(&*checkpoint, from, &args.choice, &args.work)?;
            let run = |options: Options<'_>| report::tensors(&*checkpoint, &*planner, options);
            (progress.run(&args.work, None, run), plan::describe(&args.choice))
        }
    };
    let tensors = tensors.map_err(|error| Failure::checkpoint(from, None, error))?;
    let title = from.file_name().unwrap_or(from.as_os_str()).to_string_lossy();
    let mut page = report::Report::new(title, tensors).metadata("quantized", how);
    for (key, value) in checkpoint.metadata() {
        page = page.metadata(key, value);
    }
    let mut html = Vec::new();
    page.write_html(&mut html)?;
    output::replace(&args.output, &html)?;
    let mut out = io::stdout().lock();
    let len = output::bytes(input::len(&args.output)?);
    writeln!(out, "{}: {} tensors, {len}", args.output.display(), page.tensors().len())?;
    Ok(Answer::Yes)
}
