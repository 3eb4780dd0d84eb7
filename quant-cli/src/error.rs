//! Why a command stopped, as a message, JSON and an exit code.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use quant::quantize::UnmatchedRule;
use quant::quantize::mixed::MixedPrecisionError;
use quant::record::RecordFormatError;
use quant::{ParamId, QuantizeError, RecordError};
pub(crate) use quant_formats::__private::chain;
use quant_formats::{CheckpointError, FolderError, GgufError, SafetensorsError};
use serde::Serialize;

use crate::args::Choice;
use crate::output::{printable, with_short_words};
use crate::signals;

/// Why a command stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments are invalid, or do not fit the checkpoint: exit code 2.
    Usage { message: String, help: Option<String> },
    /// A file cannot be read or written: exit code 3.
    File { path: PathBuf, source: Box<dyn Error + Send + Sync>, help: Option<String> },
    /// A signal arrived: exit code 130.
    Interrupted,
    /// A signal arrived, and the same command can go on: exit code 130.
    Suspended,
    /// Standard output cannot be written: exit code 3.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: None }
    }

    /// An error of the arguments or of a recipe, about the file at `path`.
    pub(crate) fn usage_of(path: &Path, error: &(dyn Error + 'static)) -> Self {
        Self::usage(format!("{}: {}", path.display(), chain(error)))
    }

    pub(crate) fn file(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::File { path: path.into(), source: source.into(), help: None }
    }

    pub(crate) fn help(self, text: impl Into<String>) -> Self {
        let text = Some(text.into());
        match self {
            Self::Usage { message, .. } => Self::Usage { message, help: text },
            Self::File { path, source, .. } => Self::File { path, source, help: text },
            other => other,
        }
    }

    /// An error of reading the checkpoint at `path`.
    pub(crate) fn record(path: &Path, error: RecordError) -> Self {
        let help = match &error {
            RecordError::Format { source, .. } => match source {
                RecordFormatError::SectionChecksum { .. }
                | RecordFormatError::HeaderChecksum { .. } => {
                    Some("the file is damaged; `quant verify` lists all damage")
                }
                RecordFormatError::Truncated { .. } => {
                    Some("the file is incomplete; copy it again")
                }
                RecordFormatError::UnsupportedVersion { .. } => Some("a newer quant can read it"),
                _ => None,
            },
            RecordError::Recorder { source, .. } => match source.downcast_ref() {
                Some(SafetensorsError::Unlisted { .. } | SafetensorsError::NotInShard { .. }) => {
                    Some("--ignore-index takes the tensors from the shards")
                }
                _ => None,
            },
            _ => None,
        };
        let failure = Self::of_record(path, error);
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }

    /// The error itself, without the layer that names the file and says that it is invalid.
    fn of_record(path: &Path, error: RecordError) -> Self {
        match error {
            RecordError::Io { path: Some(path), source } => Self::file(&path, source),
            RecordError::Io { path: None, source } => Self::file(path, source),
            RecordError::Format { path: Some(path), source } => Self::file(&path, source),
            RecordError::Format { path: None, source } => Self::file(path, source),
            RecordError::Recorder { path: Some(path), source } => Self::file(&path, source),
            RecordError::Recorder { path: None, source } => Self::file(path, source),
            other => Self::file(path, other),
        }
    }

    /// An error of rewriting the checkpoint at `from` to `to`, which may be a model directory.
    pub(crate) fn written(
        from: &Path,
        to: &Path,
        folder: bool,
        choice: Option<&Choice>,
        error: CheckpointError,
    ) -> Self {
        match Self::checkpoint(from, Some(to), choice, error) {
            Self::Interrupted if folder => Self::Suspended,
            failure => failure,
        }
    }

    /// An error of rewriting the checkpoint at `from` to `to`, as `choice` says.
    pub(crate) fn checkpoint(
        from: &Path,
        to: Option<&Path>,
        choice: Option<&Choice>,
        error: CheckpointError,
    ) -> Self {
        match error {
            CheckpointError::Cancelled => Self::Interrupted,
            CheckpointError::Record(error) => Self::copied(from, to.unwrap_or(from), error),
            CheckpointError::Quantize(error) => Self::quantize(from, choice, &error),
            CheckpointError::Mixed(MixedPrecisionError::Quantize(error)) => {
                Self::quantize(from, choice, &error)
            }
            CheckpointError::Mixed(error) => Self::usage_of(from, &error),
            CheckpointError::NothingToQuantize { quantized, .. } => {
                let failure = Self::usage_of(from, &error);
                if quantized > 0 {
                    failure.help(
                        "`quant dequantize` makes a quantized checkpoint float; --requantize \
                         quantizes it again",
                    )
                } else {
                    failure.help("`quant plan` shows the reason for each tensor")
                }
            }
            CheckpointError::Folder(error) => Self::folder(&error),
            CheckpointError::PreQuantized { ref tensors } => {
                let help = match tensors.refused() {
                    None => {
                        "`quant dequantize` makes it float; --requantize quantizes the floats that \
                         it stands for"
                    }
                    Some(_) => "quantize the float checkpoint that it was made from",
                };
                Self::usage_of(from, &error).help(help)
            }
            CheckpointError::Refused { .. } => {
                Self::usage_of(from, &error).help("`quant convert` copies such tensors as they are")
            }
            CheckpointError::NoBlocks { .. } => Self::usage_of(from, &error),
            CheckpointError::Memory { .. } => {
                Self::usage_of(from, &error).help("allow more with --max-memory")
            }
            error => Self::file(from, error),
        }
    }

    /// An error of reading `from` or of writing `to`.
    fn copied(from: &Path, to: &Path, error: RecordError) -> Self {
        if lacks_type(&error) {
            return Self::record(to, error).help(
                "--scheme q8_0, q4_0 or q4_1 makes blocks of GGUF; --omit leaves a tensor or state \
                 out",
            );
        }
        if let Some(id) = value_of_block(&error) {
            return Self::record(from, error).help(keep(&id));
        }
        let read = matches!(
            &error,
            RecordError::Format {
                source: RecordFormatError::SectionChecksum { .. }
                    | RecordFormatError::Truncated { .. }
                    | RecordFormatError::Tensor { .. }
                    | RecordFormatError::Padding { .. },
                ..
            }
        );
        Self::record(if read { from } else { to }, error)
    }

    fn quantize(from: &Path, choice: Option<&Choice>, error: &QuantizeError) -> Self {
        match (error, choice) {
            (QuantizeError::Rules(rules), Some(choice)) if choice.recipe.is_none() => {
                let rules: Vec<String> = rules.iter().map(keep_without_effect).collect();
                Self::usage(format!("{}: {}", from.display(), rules.join("; ")))
                    .help("`quant inspect --quick` shows the names")
            }
            (QuantizeError::Param { id, .. }, _) => Self::usage_of(from, error).help(keep(id)),
            _ => Self::usage_of(from, error),
        }
    }

    /// An error of writing a model directory.
    fn folder(error: &FolderError) -> Self {
        let failure = Self::usage(chain(error));
        match error {
            FolderError::NotEmpty { .. } => {
                failure.help("write to a new directory, or an empty one")
            }
            FolderError::OtherJob { .. } => {
                failure.help("remove it, or repeat the command that began to write it")
            }
            FolderError::Blocks { .. } => {
                failure.help("--requantize quantizes blocks of GGUF from the floats they stand for")
            }
            FolderError::Scheme { id, .. } | FolderError::NotLinear { id, .. } => {
                failure.help(format!(
                    "--keep '{id}' leaves the tensor float; `quant dequantize` makes all of them float"
                ))
            }
            _ => failure,
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::File { .. } | Self::Output(_) => 3,
            Self::Interrupted | Self::Suspended => signals::EXIT_CODE,
        }
    }

    /// Whether the reader of standard output has gone away: `quant inspect … | head`.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Prints the error to standard error. Nothing can be done if that fails.
    pub(crate) fn print(&self, json: bool) {
        let mut stderr = io::stderr().lock();
        if json {
            let exit_code = self.exit_code();
            let error = Message { message: self.to_string(), help: self.help_text(), exit_code };
            let _ = crate::output::json(&mut stderr, &Document { error });
            return;
        }
        let title = console::style("error:").for_stderr().red().bold();
        let _ = writeln!(stderr, "{title} {}", printable(&with_short_words(&self.to_string())));
        if let Some(help) = self.help_text() {
            let _ = writeln!(stderr, "  {}", printable(&with_short_words(help)));
        }
    }

    fn help_text(&self) -> Option<&str> {
        match self {
            Self::Usage { help, .. } | Self::File { help, .. } => help.as_deref(),
            Self::Interrupted | Self::Suspended | Self::Output(_) => None,
        }
    }
}

/// Whether GGUF has no type for a tensor or state.
fn lacks_type(error: &RecordError) -> bool {
    let RecordError::Recorder { source, .. } = error else { return false };
    matches!(source.downcast_ref(), Some(GgufError::NoType { .. }))
}

/// What is printed of an error under `--json`.
#[derive(Serialize)]
struct Document<'a> {
    error: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    message: String,
    help: Option<&'a str>,
    exit_code: u8,
}

/// The way around a tensor that cannot be quantized.
fn keep(id: &ParamId) -> String {
    format!("--keep '{id}' leaves the tensor float")
}

/// The tensor with a value that blocks of GGUF cannot hold, if that is the error.
fn value_of_block(error: &RecordError) -> Option<ParamId> {
    let RecordError::Recorder { source, .. } = error else { return None };
    match source.downcast_ref()? {
        GgufError::Value { id, .. } => Some(id.clone()),
        _ => None,
    }
}

/// A rule that `--keep` has made, as the user wrote it.
fn keep_without_effect(rule: &UnmatchedRule) -> String {
    match rule {
        UnmatchedRule::NoMatch { pattern, nearest, .. } if nearest.is_empty() => {
            format!("--keep '{pattern}' matches no tensor")
        }
        UnmatchedRule::NoMatch { pattern, nearest, .. } => {
            format!("--keep '{pattern}' matches no tensor; similar names: {}", nearest.join(", "))
        }
        UnmatchedRule::Shadowed { pattern, by_pattern, .. } => {
            format!("--keep '{pattern}' matches nothing that --keep '{by_pattern}' does not match")
        }
        other => other.to_string(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { message, .. } => f.write_str(message),
            Self::File { path, source, .. } => {
                let (path, text) = (path.display().to_string(), chain(&**source));
                // Errors of the system name the file already.
                if text.starts_with(&path) {
                    f.write_str(&text)
                } else {
                    write!(f, "{path}: {text}")
                }
            }
            Self::Interrupted => f.write_str("interrupted; nothing was written"),
            Self::Suspended => f.write_str("interrupted; the same command goes on from here"),
            Self::Output(error) => write!(f, "standard output cannot be written: {error}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
