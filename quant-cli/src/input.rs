//! From arguments to checkpoints and recipes.

use std::io;
use std::path::{Path, PathBuf};

use quant::__private::OpenFile;
use quant::{QuantizationScheme, QuantizationType, Recipe, RecordError, Rule};
use quant_formats::{Checkpoint, Format, Rename, RenameError};

use crate::args::{Choice, Input, Names};
use crate::error::{Failure, chain};

/// Opens a checkpoint and renames its tensors.
pub(crate) fn open(input: &Input) -> Result<Checkpoint, Failure> {
    open_as(&input.path, &input.names)
}

pub(crate) fn open_as(path: &Path, names: &Names) -> Result<Checkpoint, Failure> {
    let rename = rename(names).map_err(|error| Failure::usage(chain(&error)))?;
    let checkpoint = open_path(path, names)?;
    rename.checkpoint(checkpoint).map_err(|error| {
        Failure::usage(format!("{}: {}", path.display(), rename_message(names, &error)))
            .help("`quant inspect --quick` shows the names")
    })
}

/// Opens a checkpoint with the names that its tensors have there.
pub(crate) fn open_path(path: &Path, names: &Names) -> Result<Checkpoint, Failure> {
    try_open(path, names.ignore_index).map_err(|error| Failure::record(path, error))
}

pub(crate) fn try_open(path: &Path, ignore_index: bool) -> Result<Checkpoint, RecordError> {
    match ignore_index {
        true => quant_formats::open_ignoring_index(path),
        false => quant_formats::open(path),
    }
}

/// The rules of `--omit`, then those of `--rename`.
fn rename(names: &Names) -> Result<Rename, RenameError> {
    let rename = names.omit.iter().fold(Rename::new(), Rename::omit);
    let mut pairs = names.rename.chunks_exact(2);
    pairs.try_fold(rename, |rename, pair| rename.replace(&pair[0], &*pair[1]))
}

fn rename_message(names: &Names, error: &RenameError) -> String {
    match error {
        RenameError::NoMatch { rule, pattern } if *rule < names.omit.len() => {
            format!("--omit '{pattern}' matches no name")
        }
        RenameError::NoMatch { pattern, .. } => format!("--rename '{pattern}' matches no name"),
        other => chain(other),
    }
}

/// The recipe that the arguments describe, without a budget.
pub(crate) fn recipe(choice: &Choice) -> Result<Recipe, Failure> {
    if let Some(path) = &choice.recipe {
        let text = read_text(path).map_err(|error| Failure::file(path, error))?;
        return toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("{}: {}", path.display(), error.to_string().trim_end()))
        });
    }
    let recipe = match (choice.budget, choice.preset) {
        (Some(_), _) => Recipe::new(),
        (None, Some(preset)) => preset.into(),
        (None, None) => Recipe::new().scheme(choice.scheme.quantization),
    };
    let recipe = choice.calibration.into_iter().fold(recipe, Recipe::calibration);
    Ok(choice.keep.iter().fold(recipe, |recipe, glob| recipe.rule(Rule::keep(glob))))
}

/// The text of a regular file: a device may have no end.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    io::read_to_string(OpenFile::open(path)?.file)
}

/// The recipe that chooses the tensors that become blocks of GGUF. Its scheme means nothing.
pub(crate) fn recipe_of_blocks(choice: &Choice) -> Result<Recipe, Failure> {
    let calibrating =
        [("--calibration", choice.calibration.is_some()), ("--moments", choice.moments.is_some())];
    if let Some((flag, _)) = calibrating.into_iter().find(|(_, given)| *given) {
        let message = format!("{flag}: the scales of blocks of GGUF are not calibrated");
        return Err(Failure::usage(message));
    }
    let scheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);
    let keep = choice.keep.iter();
    Ok(keep.fold(Recipe::new().scheme(scheme), |recipe, glob| recipe.rule(Rule::keep(glob))))
}

/// Whether an output is a model directory: one that exists, or a name with a slash at its end or
/// without an extension. What follows the dot of `Llama-3.1-8B` is none.
pub(crate) fn is_folder(output: &Path) -> bool {
    let is_extension =
        |text: &str| !text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(['-', '_']);
    let extension = output.extension().map(|it| it.to_string_lossy());
    let ends_with_slash = output.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
    output.is_dir() || ends_with_slash || !extension.is_some_and(|it| is_extension(&it))
}

/// The files that a command reads, none of which it may write.
pub(crate) struct Sources(Vec<PathBuf>);

impl Sources {
    /// The files of a checkpoint: with an index, its shards, too, and the configurations beside
    /// safetensors, which say how they are quantized.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        let mut files: Vec<PathBuf> = checkpoint.files().map(Path::to_owned).collect();
        if checkpoint.format() == Format::Safetensors
            && let Some(first) = files.first().cloned()
        {
            let beside = ["config.json", "quantize_config.json"];
            files.extend(beside.map(|name| first.with_file_name(name)));
        }
        Self(files)
    }

    pub(crate) fn and(mut self, more: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.0.extend(more.into_iter().map(Into::into));
        self
    }

    /// Checks, before any work, that `output` is a checkpoint's name and not one of these files.
    pub(crate) fn check_checkpoint(&self, output: &Path) -> Result<(), Failure> {
        let format = Format::of_path(output).map_err(|error| Failure::usage(error.to_string()))?;
        self.check(output)?;
        // A record in shards is removed with its index.
        if format == Format::Record
            && let Ok(replaced) = quant_formats::open(output)
        {
            replaced.files().try_for_each(|shard| self.check(shard))?;
        }
        Ok(())
    }

    /// Checks, before any work, that `output` is not one of these files.
    pub(crate) fn check(&self, output: &Path) -> Result<(), Failure> {
        match self.0.iter().find(|source| is_same_file(source, output)) {
            None => Ok(()),
            Some(source) => {
                let (output, source) = (output.display(), source.display());
                Err(Failure::usage(format!("{output}: is an input, {source}"))
                    .help("write to another name"))
            }
        }
    }
}

/// Whether two names lead to one file, through links of any kind.
fn is_same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |path: &Path| std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
        matches!((id(a), id(b)), (Some(a), Some(b)) if a == b)
    }
    #[cfg(not(unix))]
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The bytes of all files of the checkpoint at `path`.
pub(crate) fn len_at(path: &Path) -> Result<u64, Failure> {
    len(&quant_formats::open(path).map_err(|error| Failure::record(path, error))?)
}

/// The bytes of all files of a checkpoint.
pub(crate) fn len(checkpoint: &Checkpoint) -> Result<u64, Failure> {
    let len = |path: &Path| match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) => Err(Failure::file(path, error)),
    };
    checkpoint.files().map(len).sum()
}
