//! Which format a file has.

use core::fmt;
use std::error::Error;
use std::path::{Path, PathBuf};

use quant::record::RecordError;

/// The format of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The [record](quant::record) of this library.
    Record,
    /// safetensors.
    Safetensors,
    /// JSON, for eyes.
    Json,
}

impl Format {
    /// The format in which a file of this name is written.
    ///
    /// # Errors
    /// The extension is not one of `.quant`, `.safetensors` and `.json`.
    pub fn of_path(path: &Path) -> Result<Self, FormatError> {
        let extension = path.extension().unwrap_or_default();
        let known = [Self::Record, Self::Safetensors, Self::Json];
        let found = known.into_iter().find(|format| extension == format.extension());
        found.ok_or_else(|| FormatError::Extension { path: path.into() })
    }

    /// The extension of its files, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Record => "quant",
            Self::Safetensors => "safetensors",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Record => "record",
            Self::Safetensors => "safetensors",
            Self::Json => "JSON",
        })
    }
}

/// A file's format is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The name's extension is that of no format.
    Extension {
        /// The path.
        path: PathBuf,
    },
    /// Only records are written in parts.
    Parts {
        /// The path.
        path: PathBuf,
        /// The format that was asked for.
        format: Format,
    },
    /// The file does not start like one of any format.
    Content {
        /// The path.
        path: PathBuf,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension { path } => write!(
                f,
                "{}: the name should end in .quant, .safetensors or .json",
                path.display()
            ),
            Self::Parts { path, format } => {
                write!(f, "{}: {format} is not written in parts, but records are", path.display())
            }
            Self::Content { path } => write!(
                f,
                "{}: neither a record nor safetensors nor JSON of this library",
                path.display()
            ),
        }
    }
}

impl Error for FormatError {}

impl From<FormatError> for RecordError {
    fn from(error: FormatError) -> Self {
        Self::recorder(error)
    }
}
