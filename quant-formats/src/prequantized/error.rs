//! Why the values of tensors that another program has quantized cannot be computed.

use std::error::Error;
use std::fmt;

use quant::{ParamId, RecordError};

/// The values of a tensor that another program has quantized contradict its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PreQuantizedError {
    /// A column belongs to a group that does not exist.
    Group {
        /// The tensor with the group of each column.
        id: ParamId,
        /// The column.
        column: usize,
        /// The number of groups.
        groups: usize,
    },
}

impl PreQuantizedError {
    pub(super) fn group(id: &ParamId, column: usize, groups: usize) -> Self {
        Self::Group { id: id.clone(), column, groups }
    }
}

impl fmt::Display for PreQuantizedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group { id, column, groups } => {
                write!(f, "{id}: column {column} is in none of the {groups} groups")
            }
        }
    }
}

impl Error for PreQuantizedError {}

impl From<PreQuantizedError> for RecordError {
    fn from(error: PreQuantizedError) -> Self {
        Self::recorder(error)
    }
}
