//! What can go wrong while a record is read.

use std::io;

use crate::record::format::error::RecordFormatError;

/// The errors of this folder, before they are given the path of a file.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    Format(RecordFormatError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<RecordFormatError> for ReadError {
    fn from(error: RecordFormatError) -> Self {
        Self::Format(error)
    }
}
