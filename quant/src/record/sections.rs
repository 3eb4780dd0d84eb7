//! Sections, end to end: their places, and writing them there.

use core::ops::Range;
use std::io::Write;

use super::RecordError;
use super::header::{Header, Section};
use super::layout::{ALIGNMENT, Prelude, header_len};
use super::payload::Payload;

/// Gives every section its place; returns where the first one starts and the last one ends.
pub(super) fn lay_out(header: &mut Header<'_>) -> Result<Range<u64>, RecordError> {
    // The length does not depend on the offsets, which are still zero.
    let encoded = header.encode()?;
    header_len(encoded.len() as u64)?;
    let start = Prelude::new(&encoded, 0).sections_start();
    let mut at = start;
    for section in header.sections_mut() {
        section.offset = at;
        // A length that overflows is refused by `validate`.
        at = section.padded_end().unwrap_or(u64::MAX - ALIGNMENT + 1);
    }
    Ok(start..at)
}

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
