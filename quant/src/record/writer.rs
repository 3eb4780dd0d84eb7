//! Writing: one walk that measures every section, one that writes it.
//!
//! The model is borrowed, and float payloads in standard layout go from the model's memory to the
//! writer without a copy of ours. Sections are measured again while they are written, so that a
//! model that changes in between becomes an error and not a damaged record.

use alloc::collections::BTreeMap;
use std::io::Write;

use super::header::{Encoding, Header, MetadataEntry, Section, StateEntry, TensorEntry};
use super::layout::{ALIGNMENT, Prelude, header_len};
use super::payload::Payload;
use super::validate::{Checked, padded_end, validate};
use super::{Part, RecordError};
use crate::activation::ActivationQuantizer;
use crate::module::{Leaves, Module, ParamId, ParamView, Site, walk};

/// Writes a model, with `metadata` added to what the model itself brings.
pub(super) fn save(
    model: &dyn Module,
    metadata: &BTreeMap<String, String>,
    writer: &mut dyn Write,
) -> Result<(), RecordError> {
    let mut draft = Draft { metadata: BTreeMap::new(), header: Header::default() };
    walk(model, &mut draft);
    draft.metadata.extend(metadata.clone());
    let header = draft.finish()?;
    let bytes = header.encode()?;
    let start = Prelude::new(&bytes, 0).sections_start();
    let end = sections_end(&header, start);
    let prelude = Prelude::new(&bytes, end);
    let checked = validate(header, start, end)?;
    let mut sink = Sink { writer, at: 0 };
    sink.write(&prelude.encode())?;
    sink.write(&bytes)?;
    sink.pad()?;
    write_sections(model, &checked, &mut sink)?;
    Ok(sink.writer.flush()?)
}

/// The header of a model, before its sections have been laid out.
struct Draft {
    metadata: BTreeMap<String, String>,
    header: Header<'static>,
}

impl Leaves for Draft {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        let scheme = param.quantized().map(crate::QuantizedTensor::scheme);
        self.header.tensors.push(TensorEntry {
            name: site.path.to_owned().into(),
            shape: param.shape().iter().map(|&extent| extent as u64).collect(),
            encoding: Encoding::of(scheme),
            sections: Payload::of(param).map(|payload| measured(&payload)),
        });
    }

    fn metadata(&mut self, key: &str, value: &str) {
        self.metadata.insert(key.into(), value.into());
    }

    fn state(&mut self, site: Site<'_>, kind: &str, data: &[u8]) {
        self.header.states.push(StateEntry {
            name: site.path.to_owned().into(),
            kind: kind.to_owned().into(),
            section: measured(&Payload::Bytes(data)),
        });
    }

    fn activation(&mut self, site: Site<'_>, activation: &ActivationQuantizer) {
        activation.save(|kind, data| self.state(site, kind, data));
    }
}

impl Draft {
    /// The header, with every section in its place.
    fn finish(self) -> Result<Header<'static>, RecordError> {
        let mut header = self.header;
        header.metadata = metadata_entries(self.metadata);
        lay_out(&mut header)?;
        Ok(header)
    }
}

pub(super) fn metadata_entries(pairs: BTreeMap<String, String>) -> Vec<MetadataEntry<'static>> {
    let entry =
        |(key, value): (String, String)| MetadataEntry { key: key.into(), value: value.into() };
    pairs.into_iter().map(entry).collect()
}

/// Gives every section its place; returns where the first one starts.
pub(super) fn lay_out(header: &mut Header<'_>) -> Result<u64, RecordError> {
    // The length does not depend on the offsets, which are still zero.
    let encoded = header.encode()?;
    header_len(encoded.len() as u64)?;
    let start = Prelude::new(&encoded, 0).sections_start();
    let mut at = start;
    for section in header.sections_mut() {
        section.offset = at;
        // A length that overflows is refused by `validate`.
        at = padded_end(*section).unwrap_or(u64::MAX - ALIGNMENT + 1);
    }
    Ok(start)
}

fn measured(payload: &Payload<'_>) -> Section {
    let (len, crc32) = payload.measure();
    Section { offset: 0, len, crc32 }
}

/// Where the last section ends.
pub(super) fn sections_end(header: &Header<'_>, start: u64) -> u64 {
    let tensors = header.tensors.iter().flat_map(|tensor| tensor.sections);
    let sections = tensors.chain(header.states.iter().map(|state| state.section));
    sections.last().and_then(padded_end).unwrap_or(start)
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

/// Writes the sections of all parameters, then those of all states.
fn write_sections(
    model: &dyn Module,
    checked: &Checked<'_>,
    sink: &mut Sink<&mut dyn Write>,
) -> Result<(), RecordError> {
    let tensors = checked.tensors.iter().flat_map(|tensor| {
        tensor.sections.into_iter().map(|section| (tensor.entry.id.as_str(), section))
    });
    let states = checked.states.iter().map(|state| (&*state.name, state.section));
    run(model, SectionWriter::new(Part::Values, tensors, sink))?;
    run(model, SectionWriter::new(Part::State, states, sink))
}

/// Writes the sections that a walk comes by, as long as they are the expected ones.
struct SectionWriter<'a, 'w, I> {
    /// Whether parameters or states are written.
    part: Part,
    expected: I,
    sink: &'a mut Sink<&'w mut dyn Write>,
    result: Result<(), RecordError>,
}

fn run<'h>(
    model: &dyn Module,
    mut writer: SectionWriter<'_, '_, impl Iterator<Item = (&'h str, Section)>>,
) -> Result<(), RecordError> {
    walk(model, &mut writer);
    writer.result?;
    match writer.expected.next() {
        Some((name, _)) => Err(RecordError::Changed { id: name.into() }),
        None => Ok(()),
    }
}

impl<'a, 'w, 'h, I: Iterator<Item = (&'h str, Section)>> SectionWriter<'a, 'w, I> {
    fn new(part: Part, expected: I, sink: &'a mut Sink<&'w mut dyn Write>) -> Self {
        Self { part, expected, sink, result: Ok(()) }
    }

    fn put(&mut self, site: Site<'_>, payload: &Payload<'_>) {
        if self.result.is_ok() {
            self.result = self.try_put(site.path, payload);
        }
    }

    fn try_put(&mut self, path: &str, payload: &Payload<'_>) -> Result<(), RecordError> {
        if let Some((name, section)) = self.expected.next()
            && name == path
            && self.sink.section(payload)? == section
        {
            return Ok(());
        }
        Err(RecordError::Changed { id: ParamId::new(path) })
    }
}

impl<'h, I: Iterator<Item = (&'h str, Section)>> Leaves for SectionWriter<'_, '_, I> {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        if self.part == Part::Values {
            Payload::of(param).iter().for_each(|payload| self.put(site, payload));
        }
    }

    fn state(&mut self, site: Site<'_>, _kind: &str, data: &[u8]) {
        if self.part == Part::State {
            self.put(site, &Payload::Bytes(data));
        }
    }

    fn activation(&mut self, site: Site<'_>, activation: &ActivationQuantizer) {
        activation.save(|kind, data| self.state(site, kind, data));
    }
}
