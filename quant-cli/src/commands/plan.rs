//! `quant plan`, and what decides about tensors for `quantize` and `report`.

mod moments;

use std::io::{self, Write};
use std::path::Path;

use quant::Plan;
use quant::quantize::mixed::{MixedChoice, MixedPrecision};
use quant::quantize::{Action, PlannedParam, Planner, Reason};
use quant_formats::{Checkpoint, Stored};
use serde::Serialize;

use crate::Outcome;
use crate::args::{self, Choice, Work};
use crate::error::{Failure, chain};
use crate::input::{self, Sources};
use crate::output::{
    self, Table, bytes, decibels, note, percentage, printable_line, shape, value, with_short_words,
};
use crate::progress::Job;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    unchanged: Vec<Unchanged>,
    notes: Vec<String>,
}

/// What `--quick` leaves out.
const NOT_READ: &str = "values were not read: errors, warnings and equal tensors are not known";

pub(crate) fn run(args: &args::Plan) -> Result<Outcome, Failure> {
    let checkpoint = input::open(&args.input)?;
    if let Some(path) = &args.write_recipe {
        Sources::of(&checkpoint).and(args.choice.files()).check(path)?;
    }
    let job = Job::new();
    let chosen = planner(&checkpoint, &args.input.path, &args.choice, &job, &args.work)?;
    let plan = job
        .run(&checkpoint, &args.work, None, |mut options| {
            options.requantize = args.choice.requantize;
            let plan = if args.quick { quant_formats::plan_by_shapes } else { quant_formats::plan };
            plan(&checkpoint, &*chosen.planner, options)
        })
        .map_err(|error| Failure::checkpoint(&args.input.path, None, Some(&args.choice), error))?;
    if let Some(path) = &args.write_recipe {
        write_recipe(&plan, path)?;
    }
    let unchanged = Unchanged::of(&checkpoint, &args.choice);
    let mut notes = chosen.notes;
    let mut out = io::stdout().lock();
    if args.json {
        notes.extend(args.quick.then(|| NOT_READ.to_owned()));
        output::json(&mut out, &Document { plan: &plan, unchanged, notes })?;
    } else {
        notes.iter().for_each(|text| note(text));
        print(&plan, &args.choice, &mut out)?;
        Unchanged::print(&unchanged, &mut out)?;
        if args.quick {
            writeln!(out, "{NOT_READ}")?;
        }
    }
    Ok(Outcome::Success)
}

/// A planner, and what the user should know about it.
pub(crate) struct Chosen {
    pub(crate) planner: Box<dyn Planner>,
    pub(crate) notes: Vec<String>,
}

/// What decides about tensors: a recipe, or the best choice within a budget.
pub(crate) fn planner(
    checkpoint: &Checkpoint,
    path: &Path,
    choice: &Choice,
    job: &Job,
    work: &Work,
) -> Result<Chosen, Failure> {
    let (recipe, mut notes) = moments::add(input::recipe(choice)?, choice, checkpoint)?;
    if recipe.quantizes_inputs() {
        notes.push(
            "the activations of the recipe are ignored: a checkpoint has weights only; \
             `Module::quantize` carries them out"
                .to_owned(),
        );
    }
    let Some(budget) = choice.budget else {
        return Ok(Chosen { planner: Box::new(recipe), notes });
    };
    let mixed = MixedPrecision::new(budget, choice.schemes.clone()).recipe(recipe);
    let chosen = job
        .run(checkpoint, work, None, |mut options| {
            options.requantize = choice.requantize;
            quant_formats::choose(checkpoint, &mixed, options)
        })
        .map_err(|error| Failure::checkpoint(path, None, Some(choice), error))?;
    if chosen.gap > 0.0 {
        let MixedChoice { error, gap, .. } = chosen;
        notes.push(format!("the error {error:.4e} is at most {gap:.1e} above the minimum"));
    }
    Ok(Chosen { planner: Box::new(chosen), notes })
}

/// What decides, in a few words.
pub(crate) fn describe(choice: &Choice) -> String {
    match (&choice.budget, &choice.recipe, choice.preset) {
        (Some(budget), ..) => format!("within {budget}"),
        (None, Some(path), _) => format!("by {}", path.display()),
        (None, None, Some(preset)) => format!("by the preset {preset}"),
        (None, None, None) => {
            let scheme = choice.scheme.quantization;
            format!("{scheme} by {}", choice.calibration.unwrap_or_default())
        }
    }
}

fn write_recipe(plan: &Plan, path: &Path) -> Result<(), Failure> {
    let recipe = plan.to_recipe().map_err(|error| Failure::usage(chain(&error)))?;
    let text = toml::to_string(&recipe).map_err(|error| Failure::file(path, error))?;
    output::write_file(path, text.as_bytes()).map_err(|error| Failure::file(path, error))
}

/// Prints a plan so that it fits a terminal.
fn print(plan: &Plan, choice: &Choice, out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new([
        "<tensor",
        "<shape",
        "<outcome",
        "size",
        "after",
        "SQNR",
        "max error",
        "<reason",
    ]);
    for param in plan.params() {
        let cells = cells(param, choice);
        match param.action {
            Action::Quantize { .. } => table.row(cells),
            _ => table.dim_row(cells),
        }
    }
    table.print(out)?;
    writeln!(out, "\n{}", summary(plan, "to be quantized"))
}

fn cells(param: &PlannedParam, choice: &Choice) -> [String; 8] {
    let (sqnr, error) = match param.expected {
        None => (String::new(), String::new()),
        Some(expected) => (decibels(expected.sqnr_db), value(expected.max_abs_error)),
    };
    let reason = match &param.reason {
        Reason::Rule { pattern, .. } if choice.recipe.is_none() => format!("--keep '{pattern}'"),
        reason => reason.to_string(),
    };
    let reason = match param.warning {
        Some(warning) => format!("{reason}; {warning}"),
        None => reason,
    };
    [
        param.id.to_string(),
        shape(&param.shape),
        param.action.to_string(),
        bytes(param.bytes_before),
        bytes(param.bytes_after),
        sqnr,
        error,
        reason,
    ]
}

/// Notes what is to be looked at of each tensor.
pub(crate) fn note_warnings(plan: &Plan) {
    for param in plan.params() {
        if let Some(warning) = param.warning {
            note(&format!("{}: {warning}", param.id));
        }
    }
}

/// `39 of 103 tensors quantized: 86.7 MB become 22.0 MB (25.4 %); lowest SQNR 31.2 dB, fc.weight`
pub(crate) fn summary(plan: &Plan, participle: &str) -> String {
    let quantized = |param: &&PlannedParam| matches!(param.action, Action::Quantize { .. });
    let chosen: Vec<_> = plan.params().iter().filter(quantized).collect();
    let (before, after) = (plan.bytes_before(), plan.bytes_after());
    let mut text = format!(
        "{} of {} tensors {participle}: {} become {} ({})",
        chosen.len(),
        plan.params().len(),
        bytes(before),
        bytes(after),
        percentage(after, before),
    );
    let noise = |param: &&PlannedParam| param.expected.and_then(|expected| expected.sqnr_db);
    let with_noise = chosen.into_iter().filter_map(|param| Some((noise(&param)?, param)));
    if let Some((sqnr, param)) = with_noise.min_by(|a, b| a.0.total_cmp(&b.0)) {
        let name = with_short_words(param.id.as_str());
        let name = printable_line(&name);
        text += &format!("; lowest SQNR {sqnr:.1} dB, {name}");
    }
    text
}

/// A tensor of a type that is never quantized, such as I64 or F64, or one in blocks of GGUF. It is
/// copied as it is.
#[derive(Serialize)]
pub(crate) struct Unchanged {
    name: String,
    #[serde(rename = "type")]
    dtype: String,
}

impl Unchanged {
    pub(crate) fn of(checkpoint: &Checkpoint, choice: &Choice) -> Vec<Self> {
        let entries = checkpoint.entries().iter();
        let blocks = entries.filter(|entry| matches!(entry.stored, Stored::Blocks(_)));
        let blocks = blocks.filter(|_| !choice.requantize).map(|entry| Self {
            name: entry.id.to_string(),
            dtype: format!("{} {:?}", entry.stored, entry.shape),
        });
        let tensors = checkpoint.state_entries().into_iter().filter_map(|state| {
            let dtype = state.kind.strip_prefix("tensor/")?.to_owned();
            Some(Self { name: state.id.to_string(), dtype })
        });
        blocks.chain(tensors).collect()
    }

    /// Prints a line, if there are any: `2 tensors are copied unchanged, such as ids (I64 [1, 512])`
    pub(crate) fn print(all: &[Self], out: &mut impl Write) -> io::Result<()> {
        let Some(Self { name, dtype }) = all.first() else { return Ok(()) };
        let name = printable_line(name);
        match all.len() {
            1 => writeln!(out, "1 tensor is copied unchanged: {name} ({dtype})"),
            n => writeln!(out, "{n} tensors are copied unchanged, such as {name} ({dtype})"),
        }
    }
}
