//! Second moments for the calibrations that need them.

use std::collections::BTreeSet;

use quant::Recipe;
use quant::calibration::Calibration;
use quant::quantize::mixed::Precision;
use quant_formats::{Checkpoint, MomentsFile};

use crate::args::Choice;
use crate::error::Failure;

/// The recipe with the moments of `--moments`, and what the user should know about them.
pub(super) fn add(
    recipe: Recipe,
    choice: &Choice,
    checkpoint: &Checkpoint,
) -> Result<(Recipe, Vec<String>), Failure> {
    let by_budget = |precision: &Precision| match precision {
        Precision::Quantized { calibration, .. } => calibration.weight_method().needs_moments(),
        _ => false,
    };
    let budget = choice.budget.is_some() && choice.schemes.iter().any(by_budget);
    let Some(path) = &choice.moments else {
        if !(recipe.needs_moments() || budget) {
            return Ok((recipe, Vec::new()));
        }
        return Err(Failure::usage("gptq and weighted-mse need second moments of inputs")
            .help("name a file of them with --moments; least-squares and hqq need none"));
    };
    if !(recipe.uses_moments() || budget) {
        return Err(Failure::usage("--moments: no calibration weighs errors by second moments")
            .help("choose gptq, gptq:descending or weighted-mse, or a --preset"));
    }
    let file = MomentsFile::open(path).map_err(|error| Failure::record(path, error))?;
    let notes = notes(&file, checkpoint);
    Ok((recipe.moments(file), notes))
}

/// Which moments are not used.
fn notes(file: &MomentsFile, checkpoint: &Checkpoint) -> Vec<String> {
    let entries = checkpoint.entries().iter();
    let used: BTreeSet<_> = entries.filter_map(|entry| file.layer_for(&entry.id)).collect();
    let unused: Vec<_> = file.layers().filter(|layer| !used.contains(layer)).collect();
    let mut notes = Vec::new();
    if let Some(first) = unused.first() {
        let count = unused.len();
        notes.push(format!("{count} second moments are of no tensor, such as those of {first}"));
    }
    if let Some(first) = file.experts().first() {
        let count = file.experts().len();
        notes.push(format!(
            "the moments of {count} weights of experts are not used, such as {first}"
        ));
    }
    notes
}
