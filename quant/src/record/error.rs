//! The error of everything that reads, writes or loads a record.

use core::fmt;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::difference::Difference;
use crate::record::format::error::RecordFormatError;
use crate::record::read::error::ReadError;
use crate::record::write::error::{ManifestError, WriteError};

/// A record could not be written, read, or loaded into a model.
///
/// Messages start with the file, if it is known; the reason is the [source](Error::source).
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// The operating system could not read or write.
    Io {
        /// The file, if it is known.
        path: Option<PathBuf>,
        /// The reason given by the operating system.
        source: io::Error,
    },
    /// The bytes are not a valid record, or the model cannot be saved as one.
    Format {
        /// The file, if it is known.
        path: Option<PathBuf>,
        /// The reason.
        source: RecordFormatError,
    },
    /// What was written differs from what was declared.
    Manifest(ManifestError),
    /// Parameters or states of the record and the model differ.
    Differences(Vec<Difference>),
    /// An error specific to another [`Recorder`](super::Recorder).
    Recorder {
        /// The file, if it is known.
        path: Option<PathBuf>,
        /// The reason.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl RecordError {
    /// The error of another [`Recorder`](super::Recorder), for this reason.
    pub fn recorder(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Recorder { path: None, source: source.into() }
    }

    /// The same error with the path of the file, unless it has one.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        if let Self::Io { path, .. } | Self::Format { path, .. } | Self::Recorder { path, .. } =
            &mut self
        {
            path.get_or_insert_with(|| file.into());
        }
        self
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Io { path: Some(path), .. }
        | Self::Format { path: Some(path), .. }
        | Self::Recorder { path: Some(path), .. } = self
        {
            write!(f, "{}: ", path.display())?;
        }
        match self {
            Self::Io { .. } => f.write_str("I/O error"),
            Self::Format { .. } => f.write_str("invalid record"),
            Self::Manifest(_) => f.write_str("the tensors do not match their declaration"),
            Self::Differences(differences) => list(differences, f),
            Self::Recorder { .. } => f.write_str("recorder error"),
        }
    }
}

fn list(differences: &[Difference], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("the record does not fit the model:")?;
    differences.iter().try_for_each(|difference| write!(f, "\n  {difference}"))
}

impl Error for RecordError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Format { source, .. } => Some(source),
            Self::Manifest(source) => Some(source),
            Self::Differences(_) => None,
            Self::Recorder { source, .. } => Some(&**source),
        }
    }
}

impl From<io::Error> for RecordError {
    fn from(source: io::Error) -> Self {
        Self::Io { path: None, source }
    }
}

impl From<RecordFormatError> for RecordError {
    fn from(source: RecordFormatError) -> Self {
        Self::Format { path: None, source }
    }
}

impl From<ManifestError> for RecordError {
    fn from(source: ManifestError) -> Self {
        Self::Manifest(source)
    }
}

impl From<ReadError> for RecordError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(source) => source.into(),
            ReadError::Format(source) => source.into(),
        }
    }
}

impl From<WriteError> for RecordError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io(source) => source.into(),
            WriteError::Format(source) => source.into(),
            WriteError::Manifest(source) => source.into(),
        }
    }
}
