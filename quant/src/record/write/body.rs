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
///
/// Sections have their places from the start, so that a tensor is written part by part: each of its
/// sections goes on where its last part ended.
pub(super) struct Body<W> {
    sink: Sink<W>,
    version: RecordVersion,
    header: Header<'static>,
    tensors: usize,
    states: usize,
    /// The sections of the tensor or state that has been begun.
    open: Vec<OpenSection>,
}

/// A section up to the last part that was written.
struct OpenSection {
    at: u64,
    end: u64,
    crc: crc32fast::Hasher,
}

impl OpenSection {
    fn of(section: &Section) -> Self {
        let Section { offset: at, len, .. } = *section;
        // The plan has been validated.
        Self { at, end: at.saturating_add(len), crc: crc32fast::Hasher::new() }
    }
}

impl<W: Write + Seek> Body<W> {
    pub(super) fn begin(mut writer: W, planned: PlannedFile) -> Result<Self, WriteError> {
        let PlannedFile { version, header, start: at } = planned;
        writer.seek(SeekFrom::Start(at))?;
        let (sink, open) = (Sink { writer, at }, Vec::new());
        Ok(Self { sink, version, header, tensors: 0, states: 0, open })
    }

    /// Whether all tensors and states of the header have been written.
    pub(super) fn is_full(&self) -> bool {
        self.tensors == self.header.tensors.len() && self.states == self.header.states.len()
    }

    /// Begins the next tensor. The caller has compared it with its declaration.
    pub(super) fn begin_tensor(&mut self) {
        let entry = &self.header.tensors[self.tensors];
        self.open = entry.sections.iter().map(OpenSection::of).collect();
    }

    /// Writes the next part of the tensor.
    pub(super) fn tensor_part(&mut self, part: ParamView<'_>) -> Result<(), WriteError> {
        let payloads = Payload::of_version(part, self.version);
        (0..).zip(&payloads).try_for_each(|(section, payload)| self.put(section, payload))
    }

    /// Ends the tensor, of which all parts have been written.
    pub(super) fn end_tensor(&mut self) -> Result<(), WriteError> {
        for (number, open) in core::mem::take(&mut self.open).into_iter().enumerate() {
            let crc32 = self.close(open)?;
            self.header.tensors[self.tensors].sections[number].crc32 = crc32;
        }
        self.tensors += 1;
        Ok(())
    }

    /// Begins the next state.
    pub(super) fn begin_state(&mut self) {
        self.open = vec![OpenSection::of(&self.header.states[self.states].section)];
    }

    /// Writes the next bytes of the state.
    pub(super) fn state_part(&mut self, data: &[u8]) -> Result<(), WriteError> {
        self.put(0, &Payload::Bytes(data))
    }

    /// Ends the state, of which all bytes have been written.
    pub(super) fn end_state(&mut self) -> Result<(), WriteError> {
        for open in core::mem::take(&mut self.open) {
            let crc32 = self.close(open)?;
            self.header.states[self.states].section.crc32 = crc32;
        }
        self.states += 1;
        Ok(())
    }

    /// Writes the next bytes of a section that is open.
    fn put(&mut self, section: usize, payload: &Payload<'_>) -> Result<(), WriteError> {
        let Some(open) = self.open.get(section) else { return Err(ManifestError::Failed.into()) };
        self.seek(open.at)?;
        let (sink, open) = (&mut self.sink, &mut self.open[section]);
        payload.chunks(|bytes| {
            open.crc.update(bytes);
            sink.write(bytes)
        })?;
        open.at = sink.at;
        if open.at > open.end { Err(self.changed()) } else { Ok(()) }
    }

    /// Writes the padding of a section; returns its checksum.
    fn close(&mut self, open: OpenSection) -> Result<u32, WriteError> {
        if open.at != open.end {
            return Err(self.changed());
        }
        self.seek(open.end)?;
        self.sink.pad()?;
        Ok(open.crc.finalize())
    }

    fn seek(&mut self, at: u64) -> Result<(), WriteError> {
        if self.sink.at != at {
            self.sink.writer.seek(SeekFrom::Start(at))?;
            self.sink.at = at;
        }
        Ok(())
    }

    /// The parts of a tensor or state are not as long as was declared.
    fn changed(&self) -> WriteError {
        let tensor = self.header.tensors.get(self.tensors).map(|it| &it.name);
        let state = || self.header.states.get(self.states).map(|it| &it.name);
        match tensor.or_else(state) {
            Some(name) => ManifestError::Changed { id: name.clone().into_owned().into() }.into(),
            None => ManifestError::Failed.into(),
        }
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
