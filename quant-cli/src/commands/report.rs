//! `quant report`

use std::io::{self, Write};
use std::path::Path;

use quant::activation::LayerComparison;
use quant_formats::report::{self, TensorReport};
use serde::Serialize;

use super::plan::{self, Chosen};
use crate::Outcome;
use crate::args::Report;
use crate::error::Failure;
use crate::input::{self, Sources};
use crate::output::{self, bytes, note};
use crate::progress::Job;

#[derive(Serialize)]
struct Summary<'a> {
    input: String,
    output: String,
    output_bytes: u64,
    tensors: Vec<Line<'a>>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    /// `None` where the tensor is not quantized, or no value differs.
    sqnr_db: Option<f64>,
    /// `None` where the tensor is not quantized.
    max_abs_error: Option<f32>,
}

pub(crate) fn run(args: &Report) -> Result<Outcome, Failure> {
    let from = &args.input.path;
    let checkpoint = input::open(&args.input)?;
    let sources = Sources::of(&checkpoint).and(args.choice.files()).and(&args.layers);
    sources.check(&args.output)?;
    let layers = args.layers.as_deref().map(read_layers).transpose()?;
    let job = Job::new();
    let mut notes = Vec::new();
    let (tensors, how) = match &args.against {
        Some(path) => {
            let quantized = input::open_path(path, &args.input.names)?;
            let read = quantized.files().map(Path::to_owned);
            sources.and(read).check(&args.output)?;
            let tensors = job.run(&checkpoint, &args.work, None, |options| {
                report::tensors_against(&checkpoint, &quantized, options)
            });
            (tensors, path.display().to_string())
        }
        None => {
            let Chosen { planner, notes: said } =
                plan::planner(&checkpoint, from, &args.choice, &job, &args.work)?;
            notes = said;
            let tensors = job.run(&checkpoint, &args.work, None, |mut options| {
                options.requantize = args.choice.requantize;
                report::tensors(&checkpoint, &*planner, options)
            });
            (tensors, plan::describe(&args.choice))
        }
    };
    let tensors =
        tensors.map_err(|error| Failure::checkpoint(from, None, Some(&args.choice), error))?;
    let title = from.file_name().unwrap_or(from.as_os_str()).to_string_lossy();
    let mut page = report::Report::new(title, tensors).metadata("quantized", how);
    for (key, value) in checkpoint.metadata() {
        page = page.metadata(key, value);
    }
    if let Some(layers) = layers {
        page = page.layers(layers);
    }
    let output_bytes = write(&page, &args.output, &job)?;
    let summary = Summary {
        input: from.display().to_string(),
        output: args.output.display().to_string(),
        output_bytes,
        tensors: page.tensors().iter().map(Line::of).collect(),
        notes,
    };
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &summary)?;
    } else {
        summary.notes.iter().for_each(|text| note(text));
        let Summary { output, output_bytes, tensors, .. } = summary;
        writeln!(out, "{output}: {} tensors, {}", tensors.len(), bytes(output_bytes))?;
    }
    Ok(Outcome::Success)
}

fn read_layers(path: &Path) -> Result<LayerComparison, Failure> {
    let text = input::read_text(path).map_err(|error| Failure::file(path, error))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("{}: not a comparison of layers: {error}", path.display()))
    })
}

/// Writes the page, and returns the number of its bytes.
fn write(page: &report::Report, path: &Path, job: &Job) -> Result<u64, Failure> {
    let mut len = 0;
    let written: io::Result<()> = quant::record::write_file(path, |file| {
        let mut page_file = PageFile { file, job, len: 0 };
        page.write_html(output::buffered(&mut page_file))?;
        len = page_file.len;
        Ok(())
    });
    match written {
        Ok(()) => Ok(len),
        Err(error) => job.check().and(Err(Failure::file(path, error))),
    }
}

/// A file that counts its bytes, and cannot be written once the job is cancelled.
struct PageFile<'a> {
    file: &'a mut dyn Write,
    job: &'a Job,
    len: u64,
}

impl Write for PageFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.job.check().map_err(|_| io::Error::other("interrupted"))?;
        let written = self.file.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<'a> Line<'a> {
    fn of(tensor: &'a TensorReport) -> Self {
        Self {
            name: tensor.id().as_str(),
            sqnr_db: tensor.sqnr_db(),
            max_abs_error: tensor.max_abs_error(),
        }
    }
}
