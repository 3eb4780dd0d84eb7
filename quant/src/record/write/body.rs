//! One file of a record that is written one tensor at a time.
//!
//! The length of a header depends only on names and ranks, so the payloads are written first, after
//! a hole for the header, which is filled in at the end with their checksums.

use std::io::{Seek, SeekFrom, Write};

use super::error::{ManifestError, WriteError};
use super::payload::Payload;
use super::shards::PlannedFile;
use super::sink::Sink;
use crate::module::ParamView;
use crate::record::format::header::Header;
use crate::record::format::layout::Prelude;
use crate::record::format::section::Section;
use crate::record::format::version::RecordVersion;

/// A file whose sections are being written, after a hole for its header.
pub(super) struct Body<W> {
    sink: Sink<W>,
    version: RecordVersion,
    header: Header<'static>,
    tensors: usize,
    states: usize,
}

impl<W: Write + Seek> Body<W> {
    pub(super) fn begin(mut writer: W, planned: PlannedFile) -> Result<Self, WriteError> {
        let PlannedFile { version, header, start: at } = planned;
        writer.seek(SeekFrom::Start(at))?;
        Ok(Self { sink: Sink { writer, at }, version, header, tensors: 0, states: 0 })
    }

    /// Whether all tensors and states of the header have been written.
    pub(super) fn is_full(&self) -> bool {
        self.tensors == self.header.tensors.len() && self.states == self.header.states.len()
    }

    /// Writes the next tensor. The caller has compared it with its declaration.
    pub(super) fn tensor(&mut self, param: ParamView<'_>) -> Result<(), WriteError> {
        let entry = &mut self.header.tensors[self.tensors];
        for (payload, section) in
            Payload::of_version(param, self.version).iter().zip(&mut entry.sections)
        {
            if !put(&mut self.sink, payload, section)? {
                return Err(
                    ManifestError::Changed { id: entry.name.clone().into_owned().into() }.into()
                );
            }
        }
        self.tensors += 1;
        Ok(())
    }

    /// Writes the next state.
    pub(super) fn state(&mut self, data: &[u8]) -> Result<(), WriteError> {
        let entry = &mut self.header.states[self.states];
        if !put(&mut self.sink, &Payload::Bytes(data), &mut entry.section)? {
            return Err(
                ManifestError::Changed { id: entry.name.clone().into_owned().into() }.into()
            );
        }
        self.states += 1;
        Ok(())
    }

    /// Writes prelude and header into the hole at the start of the file.
    pub(super) fn finish(mut self) -> Result<(W, Prelude), WriteError> {
        let bytes = self.header.encode()?;
        let prelude = Prelude::new(self.version, &bytes, self.sink.at);
        self.sink.writer.seek(SeekFrom::Start(0))?;
        self.sink.at = 0;
        self.sink.write(&prelude.encode())?;
        self.sink.write(&bytes)?;
        self.sink.pad()?;
        Ok((self.sink.writer, prelude))
    }
}

/// Writes a section and stores its checksum; returns whether it has the declared offset and length.
fn put<W: Write>(
    sink: &mut Sink<W>,
    payload: &Payload<'_>,
    section: &mut Section,
) -> Result<bool, WriteError> {
    let written = sink.section(payload)?;
    section.crc32 = written.crc32;
    Ok(*section == written)
}
