//! `quant plan`

use std::io::{self, Write};
use std::path::Path;

use quant::mixed::MixedChoice;
use quant::{Action, MixedPrecision, Plan, PlannedParam, Planner};
use quant_formats::Checkpoint;

use crate::Answer;
use crate::args::{self, Choice, Work};
use crate::error::Failure;
use crate::input;
use crate::output::{self, Table, bytes, decibels, shape, value};
use crate::progress::Progress;

pub(crate) fn run(args: &args::Plan) -> Result<Answer, Failure> {
    let checkpoint = input::open(&args.input)?;
    let planner = planner(&*checkpoint, &args.input.path, &args.choice, &args.work)?;
    let plan = Progress::over(&*checkpoint)
        .run(&args.work, None, |options| quant_formats::plan(&*checkpoint, &*planner, options))
        .map_err(|error| Failure::checkpoint(&args.input.path, None, error))?;
    if let Some(path) = &args.write_recipe {
        write_recipe(&plan, path)?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        output::json(&mut out, &plan)?;
    } else {
        print(&plan, &mut out)?;
    }
    Ok(Answer::Yes)
}

/// What decides: a recipe, or the best choice within a budget.
pub(crate) fn planner(
    checkpoint: &dyn Checkpoint,
    path: &Path,
    choice: &Choice,
    work: &Work,
) -> Result<Box<dyn Planner>, Failure> {
    let recipe = input::recipe(choice)?;
    let Some(budget) = choice.budget else { return Ok(Box::new(recipe)) };
    let mixed = MixedPrecision::new(budget, choice.schemes.clone()).recipe(recipe);
    let chosen = Progress::over(checkpoint)
        .run(work, None, |options| quant_formats::choose(checkpoint, &mixed, options))
        .map_err(|error| Failure::checkpoint(path, None, error))?;
    if chosen.gap > 0.0 {
        let MixedChoice { error, gap, .. } = chosen;
        eprintln!("note: the error {error:.4e} is at most {gap:.1e} above the least");
    }
    Ok(Box::new(chosen))
}

/// What decides, in a few words.
pub(crate) fn describe(choice: &Choice) -> String {
    match (&choice.budget, &choice.recipe) {
        (Some(budget), _) => format!("within {budget}"),
        (None, Some(path)) => format!("by {}", path.display()),
        (None, None) => {
            format!("{} by {}", choice.scheme, choice.calibration.unwrap_or_default())
        }
    }
}

fn write_recipe(plan: &Plan, path: &Path) -> Result<(), Failure> {
    let recipe = plan.to_recipe().map_err(|error| Failure::asked(error.to_string()))?;
    let text = toml::to_string(&recipe).map_err(|error| Failure::file(path, error))?;
    output::replace(path, text.as_bytes())
}

/// Prints a plan so that it fits a terminal.
fn print(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new([
        "<tensor",
        "<shape",
        "<outcome",
        "size",
        "after",
        "SQNR",
        "max error",
        "<because",
    ]);
    for param in plan.params() {
        let cells = cells(param);
        match param.action {
            Action::Quantize { .. } => table.row(cells),
            _ => table.dim_row(cells),
        }
    }
    table.print(out)?;
    writeln!(out, "\n{}", summary(plan))
}

fn cells(param: &PlannedParam) -> [String; 8] {
    let (sqnr, error) = match param.expected {
        None => (String::new(), String::new()),
        Some(expected) => (decibels(expected.sqnr_db), value(expected.max_abs_error)),
    };
    [
        param.id.to_string(),
        shape(&param.shape),
        param.action.to_string(),
        bytes(param.bytes_before),
        bytes(param.bytes_after),
        sqnr,
        error,
        param.reason.to_string(),
    ]
}

/// `39 of 103 tensors quantized: 86.7 MiB to 22.0 MiB (0.254); lowest SQNR 31.2 dB, fc.weight`
pub(crate) fn summary(plan: &Plan) -> String {
    let quantized = |param: &&PlannedParam| matches!(param.action, Action::Quantize { .. });
    let chosen: Vec<_> = plan.params().iter().filter(quantized).collect();
    let (before, after) = (plan.bytes_before(), plan.bytes_after());
    let ratio = if before > 0 { after as f64 / before as f64 } else { 1.0 };
    let mut text = format!(
        "{} of {} tensors quantized: {} become {} ({ratio:.3} of it)",
        chosen.len(),
        plan.params().len(),
        bytes(before),
        bytes(after)
    );
    let noise = |param: &&PlannedParam| param.expected.and_then(|expected| expected.sqnr_db);
    let worst = chosen.into_iter().filter_map(|param| Some((noise(&param)?, param)));
    if let Some((sqnr, param)) = worst.min_by(|a, b| a.0.total_cmp(&b.0)) {
        text += &format!("; lowest SQNR {sqnr:.1} dB, {}", param.id);
    }
    text
}
