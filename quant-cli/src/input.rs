//! From arguments to checkpoints and recipes.

use std::path::Path;

use quant::{Recipe, Rule};
use quant_formats::{Checkpoint, Format, Rename, RenameError};

use crate::args::{Choice, Input, Names};
use crate::error::{Failure, chain};

/// Opens a checkpoint, under other names if asked.
pub(crate) fn open(input: &Input) -> Result<Box<dyn Checkpoint>, Failure> {
    open_as(&input.path, &input.names)
}

pub(crate) fn open_as(path: &Path, names: &Names) -> Result<Box<dyn Checkpoint>, Failure> {
    let rename = rename(names).map_err(|error| Failure::asked(error.to_string()))?;
    let opened = quant_formats::open(path).map_err(|error| Failure::record(path, error))?;
    rename.checkpoint(opened).map_err(|error| {
        Failure::asked(format!("{}: {}", path.display(), chain(&error)))
            .help("`quant inspect --quick` shows the names")
    })
}

fn rename(names: &Names) -> Result<Rename, RenameError> {
    let mut rules = names.rename.chunks_exact(2);
    let rename = rules.try_fold(Rename::new(), |rename, rule| rename.rule(&rule[0], &*rule[1]))?;
    names.omit.iter().try_fold(rename, |rename, pattern| rename.omit(pattern))
}

/// The recipe that the arguments ask for, without a budget.
pub(crate) fn recipe(choice: &Choice) -> Result<Recipe, Failure> {
    if let Some(path) = &choice.recipe {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?;
        return toml::from_str(&text).map_err(|error| {
            Failure::asked(format!("{}: {}", path.display(), error.to_string().trim_end()))
        });
    }
    let recipe = match choice.budget {
        Some(_) => Recipe::new(),
        None => Recipe::new().scheme(choice.scheme),
    };
    let recipe = choice.calibration.into_iter().fold(recipe, Recipe::calibration);
    Ok(choice.keep.iter().fold(recipe, |recipe, path| recipe.rule(Rule::keep(path))))
}

/// Checks, before any work, that a file can be written in the format that its name asks for.
pub(crate) fn check_output(from: &Path, to: &Path) -> Result<(), Failure> {
    Format::of_path(to).map_err(|error| Failure::asked(error.to_string()))?;
    match (from.canonicalize(), to.canonicalize()) {
        (Ok(from), Ok(to)) if from == to => {
            Err(Failure::asked(format!("{}: would be read and written at once", to.display()))
                .help("give the result a name of its own"))
        }
        _ => Ok(()),
    }
}

/// The length of a file.
pub(crate) fn len(path: &Path) -> Result<u64, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| Failure::file(path, error))?;
    Ok(metadata.len())
}
