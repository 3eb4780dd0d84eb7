//! Writing sections end to end.

use std::io::Write;

use super::payload::Payload;
use crate::record::error::RecordError;
use crate::record::format::layout::ALIGNMENT;
use crate::record::format::section::Section;

/// A writer that knows its position.
pub(super) struct Sink<W> {
    pub(super) writer: W,
    pub(super) at: u64,
}

impl<W: Write> Sink<W> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.writer.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes zeros up to the next boundary.
    pub(super) fn pad(&mut self) -> Result<(), RecordError> {
        let len = self.at.next_multiple_of(ALIGNMENT) - self.at;
        self.write(&[0; ALIGNMENT as usize][..len as usize])
    }

    /// Writes what a section holds, and says what has been written.
    pub(super) fn section(&mut self, payload: &Payload<'_>) -> Result<Section, RecordError> {
        let (offset, mut crc) = (self.at, crc32fast::Hasher::new());
        payload.chunks(|bytes| {
            crc.update(bytes);
            self.write(bytes)
        })?;
        let written = Section { offset, len: self.at - offset, crc32: crc.finalize() };
        self.pad()?;
        Ok(written)
    }
}
