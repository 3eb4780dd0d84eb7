//! Writing sections end to end.

use std::io::Write;

use super::error::WriteError;
use super::payload::Payload;
use crate::record::format::section::{ALIGNMENT, Section};

/// A writer that counts the bytes it has written.
pub(super) struct Sink<W> {
    pub(super) writer: W,
    pub(super) at: u64,
}

impl<W: Write> Sink<W> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.writer.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes zeros up to the next multiple of 64.
    pub(super) fn pad(&mut self) -> Result<(), WriteError> {
        let len = self.at.next_multiple_of(ALIGNMENT) - self.at;
        self.write(&[0; ALIGNMENT as usize][..len as usize])
    }

    /// Writes a section and its padding; returns its offset, length and checksum.
    pub(super) fn section(&mut self, payload: &Payload<'_>) -> Result<Section, WriteError> {
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
