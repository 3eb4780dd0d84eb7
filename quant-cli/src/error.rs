//! What a command says when it cannot go on.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use quant::record::{RecordError, RecordFormatError};
use quant_formats::CheckpointError;

/// Why a command has stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments, or the recipe, do not fit: exit code 2.
    Asked { message: String, help: Option<String> },
    /// A file cannot be read or written: exit code 3.
    File { path: PathBuf, source: Box<dyn Error + Send + Sync>, help: Option<String> },
    /// Somebody has pressed control-C: exit code 130.
    Interrupted,
    /// Nothing can be printed.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn asked(message: impl Into<String>) -> Self {
        Self::Asked { message: message.into(), help: None }
    }

    pub(crate) fn file(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::File { path: path.into(), source: source.into(), help: None }
    }

    pub(crate) fn help(self, text: impl Into<String>) -> Self {
        let text = Some(text.into());
        match self {
            Self::Asked { message, .. } => Self::Asked { message, help: text },
            Self::File { path, source, .. } => Self::File { path, source, help: text },
            other => other,
        }
    }

    /// An error of a record, about the file at `path`.
    pub(crate) fn record(path: &Path, error: RecordError) -> Self {
        let help = match &error {
            RecordError::Format { source, .. } => match source {
                RecordFormatError::SectionChecksum { .. }
                | RecordFormatError::HeaderChecksum { .. } => {
                    Some("the file has been damaged; `quant verify` lists all damage")
                }
                RecordFormatError::Truncated { .. } => {
                    Some("the file is incomplete; copy it again")
                }
                RecordFormatError::UnsupportedVersion { .. } => Some("a newer quant can read it"),
                _ => None,
            },
            _ => None,
        };
        let failure = Self::file(path, error);
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }

    /// An error of rewriting the checkpoint at `from` to `to`.
    pub(crate) fn checkpoint(from: &Path, to: Option<&Path>, error: CheckpointError) -> Self {
        match error {
            CheckpointError::Cancelled => Self::Interrupted,
            CheckpointError::Record(error) => {
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
                Self::record(if read { from } else { to.unwrap_or(from) }, error)
            }
            CheckpointError::Quantize(error) => Self::asked(format!("{}: {error}", from.display())),
            CheckpointError::Mixed(error) => Self::asked(format!("{}: {error}", from.display())),
            error @ CheckpointError::Memory { .. } => Self::asked(error.to_string())
                .help("allow more by --max-memory; a tensor is quantized whole"),
            error => Self::file(from, error),
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Asked { .. } => 2,
            Self::File { .. } | Self::Output(_) => 3,
            Self::Interrupted => 130,
        }
    }

    /// Whether the reader of what is printed has gone away: `quant inspect … | head`.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let help = match self {
            Self::Asked { message, help } => {
                f.write_str(message)?;
                help
            }
            Self::File { path, source, help } => {
                let (path, text) = (path.display().to_string(), chain(&**source));
                // Errors of the system name the file already.
                if text.starts_with(&path) {
                    f.write_str(&text)?;
                } else {
                    write!(f, "{path}: {text}")?;
                }
                help
            }
            Self::Interrupted => return f.write_str("interrupted; nothing was written"),
            Self::Output(error) => return write!(f, "cannot print: {error}"),
        };
        match help {
            Some(help) => write!(f, "\n  {help}"),
            None => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The message of an error, followed by those of its sources.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        // Some errors repeat the message of their source.
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        source = error.source();
    }
    text
}
