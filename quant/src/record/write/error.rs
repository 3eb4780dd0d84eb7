//! What can go wrong while a record is written.

use core::fmt;
use std::error::Error;
use std::io;

use super::manifest::LaterState;
use crate::module::ParamId;
use crate::record::format::entry::RecordEntry;
use crate::record::format::error::{RecordFormatError, ShardIndexError};

/// What is written differs from what the manifest declares.
///
/// An error about one parameter or state starts with its path.
#[derive(Debug)]
#[non_exhaustive]
pub enum ManifestError {
    /// A tensor is not the next one that the manifest declares.
    Unexpected {
        /// The name of the tensor.
        id: ParamId,
        /// The next tensor of the manifest, or `None` after the last one.
        expected: Option<Box<RecordEntry>>,
        /// The tensor that was to be written.
        found: Box<RecordEntry>,
    },
    /// A state is not the next one that the manifest declares, or has another number of bytes.
    UnexpectedState {
        /// The name of the state.
        id: ParamId,
        /// Its number of bytes.
        len: u64,
        /// The next state of the manifest, or `None` after the last one.
        expected: Option<Box<LaterState>>,
    },
    /// The file was finished before all tensors and states were written, or a state was to be
    /// written before all tensors were.
    Missing {
        /// The first tensor or state that was not written.
        id: ParamId,
    },
    /// The file cannot be continued after an earlier error.
    Failed,
    /// A parameter or state of a model changed between its two walks: the one that measures it and
    /// the one that writes it.
    Changed {
        /// The parameter or state.
        id: ParamId,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected { id, expected: None, .. } => {
                write!(f, "{id}: written after the last declared tensor")
            }
            Self::Unexpected { expected: Some(expected), found, .. } => {
                unexpected(expected, found, f)
            }
            Self::UnexpectedState { id, expected: None, .. } => {
                write!(f, "{id}: written after the last declared state")
            }
            Self::UnexpectedState { id, len, expected: Some(expected) } => {
                let LaterState { id: other, len: declared, .. } = &**expected;
                if id == other {
                    write!(f, "{id}: {len} bytes, declared with {declared}")
                } else {
                    write!(f, "{id}: written where {other} was declared")
                }
            }
            Self::Missing { id } => write!(f, "{id}: declared, but not written"),
            Self::Failed => f.write_str("an earlier error left the file unfinished"),
            Self::Changed { id } => write!(f, "{id}: changed while it was being saved"),
        }
    }
}

/// Writes the first difference between a tensor and its declaration.
fn unexpected(
    expected: &RecordEntry,
    found: &RecordEntry,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let id = &found.id;
    if *id != expected.id {
        return write!(f, "{id}: written where {} was declared", expected.id);
    }
    if found.shape != expected.shape {
        return write!(f, "{id}: shape {:?}, declared as {:?}", found.shape, expected.shape);
    }
    write!(f, "{id}: {}, declared as {}", found.stored, expected.stored)
}

impl Error for ManifestError {}

/// The errors of this folder, before they are given the path of a file.
#[derive(Debug)]
pub(crate) enum WriteError {
    Io(io::Error),
    Format(RecordFormatError),
    Manifest(ManifestError),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<RecordFormatError> for WriteError {
    fn from(error: RecordFormatError) -> Self {
        Self::Format(error)
    }
}

impl From<ShardIndexError> for WriteError {
    fn from(error: ShardIndexError) -> Self {
        Self::Format(error.into())
    }
}

impl From<ManifestError> for WriteError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}
