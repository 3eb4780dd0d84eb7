//! One file of a record that is being written.
//!
//! The length of a header depends on names and ranks only: room is left for it, the payloads are
//! written, and it is filled in at the end with their checksums.

use std::io::{Seek, SeekFrom, Write};

use super::payload::Payload;
use super::shards::PlannedFile;
use super::sink::Sink;
use crate::module::ParamView;
use crate::record::error::RecordError;
use crate::record::format::header::Header;
use crate::record::format::layout::Prelude;
use crate::record::format::section::Section;

/// A record whose sections are being written, after room for its header.
pub(super) struct Body<W> {
    sink: Sink<W>,
    header: Header<'static>,
    tensors: usize,
    states: usize,
}

impl<W: Write + Seek> Body<W> {
    pub(super) fn begin(mut writer: W, planned: PlannedFile) -> Result<Self, RecordError> {
        let PlannedFile { header, start: at } = planned;
        writer.seek(SeekFrom::Start(at))?;
        Ok(Self { sink: Sink { writer, at }, header, tensors: 0, states: 0 })
    }

    /// Whether all tensors and states of the header have been written.
    pub(super) fn is_full(&self) -> bool {
        self.tensors == self.header.tensors.len() && self.states == self.header.states.len()
    }

    /// Writes the next tensor, which is the declared one.
    pub(super) fn tensor(&mut self, param: ParamView<'_>) -> Result<(), RecordError> {
        let entry = &mut self.header.tensors[self.tensors];
        for (payload, section) in Payload::of(param).iter().zip(&mut entry.sections) {
            if !put(&mut self.sink, payload, section)? {
                return Err(RecordError::Changed { id: entry.name.clone().into_owned().into() });
            }
        }
        self.tensors += 1;
        Ok(())
    }

    /// Writes the next state, which is the declared one.
    pub(super) fn state(&mut self, data: &[u8]) -> Result<(), RecordError> {
        let entry = &mut self.header.states[self.states];
        if !put(&mut self.sink, &Payload::Bytes(data), &mut entry.section)? {
            return Err(RecordError::Changed { id: entry.name.clone().into_owned().into() });
        }
        self.states += 1;
        Ok(())
    }

    /// Writes the header into the room that was left for it.
    pub(super) fn finish(mut self) -> Result<(W, Prelude), RecordError> {
        let bytes = self.header.encode()?;
        let prelude = Prelude::new(&bytes, self.sink.at);
        self.sink.writer.seek(SeekFrom::Start(0))?;
        self.sink.at = 0;
        self.sink.write(&prelude.encode())?;
        self.sink.write(&bytes)?;
        self.sink.pad()?;
        Ok((self.sink.writer, prelude))
    }
}

/// Writes a section and its checksum; says whether it has the place and length laid out for it.
fn put<W: Write>(
    sink: &mut Sink<W>,
    payload: &Payload<'_>,
    section: &mut Section,
) -> Result<bool, RecordError> {
    let written = sink.section(payload)?;
    section.crc32 = written.crc32;
    Ok(*section == written)
}
