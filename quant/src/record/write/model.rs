//! Writing models: one walk that measures every section, one that writes it.
//!
//! The model is borrowed, and float payloads in standard layout go from the model's memory to the
//! writer without a copy of ours. Sections are measured again while they are written, so that a
//! model that changes in between becomes an error and not a damaged record.

use alloc::collections::BTreeMap;
use core::ops::Range;
use std::io::Write;
use std::path::Path;

use super::atomic::Files;
use super::manifest::Outline;
use super::payload::Payload;
use super::sink::Sink;
use super::stream::Stream;
use crate::module::{Leaves, ParamId, ParamView, Site, StateLeaf, Walk, walk};
use crate::record::error::RecordError;
use crate::record::format::encoding::Encoding;
use crate::record::format::header::lay_out;
use crate::record::format::header::{Header, StateEntry, TensorEntry, metadata_entries};
use crate::record::format::layout::Prelude;
use crate::record::format::section::Part;
use crate::record::format::section::Section;
use crate::record::format::validate::{Checked, validate};

/// Writes a model in one piece, with `metadata` added to what the model itself brings.
pub(crate) fn whole(
    model: &dyn Walk,
    metadata: &BTreeMap<String, String>,
    writer: &mut dyn Write,
) -> Result<(), RecordError> {
    let mut draft = Draft { metadata: BTreeMap::new(), header: Header::default() };
    walk(model, &mut draft);
    draft.metadata.extend(metadata.clone());
    let (header, Range { start, end }) = draft.finish()?;
    let bytes = header.encode()?;
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

    fn saved_state(&mut self, site: Site<'_>, kind: &str, data: &[u8]) {
        self.header.states.push(StateEntry {
            name: site.path.to_owned().into(),
            kind: kind.to_owned().into(),
            section: measured(&Payload::Bytes(data)),
        });
    }

    fn state(&mut self, site: Site<'_>, leaf: &dyn StateLeaf) {
        if let Some(data) = leaf.save() {
            self.saved_state(site, leaf.kind(), &data);
        }
    }
}

impl Draft {
    /// The header, with every section in its place, and the bytes that they take.
    fn finish(self) -> Result<(Header<'static>, Range<u64>), RecordError> {
        let mut header = self.header;
        header.metadata = metadata_entries(self.metadata);
        let sections = lay_out(&mut header)?;
        Ok((header, sections))
    }
}

fn measured(payload: &Payload<'_>) -> Section {
    let (len, crc32) = payload.measure();
    Section { offset: 0, len, crc32 }
}

/// Writes the sections of all parameters, then those of all states.
fn write_sections(
    model: &dyn Walk,
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
    model: &dyn Walk,
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

    fn saved_state(&mut self, site: Site<'_>, _kind: &str, data: &[u8]) {
        if self.part == Part::State {
            self.put(site, &Payload::Bytes(data));
        }
    }

    fn state(&mut self, site: Site<'_>, leaf: &dyn StateLeaf) {
        if let Some(data) = leaf.save() {
            self.saved_state(site, leaf.kind(), &data);
        }
    }
}

/// Writes a model in parts, with `metadata` added to what the model itself brings.
pub(crate) fn in_parts<F: Files>(
    model: &dyn Walk,
    metadata: &BTreeMap<String, String>,
    max_part_size: u64,
    files: F,
    path: &Path,
) -> Result<(), RecordError> {
    let outline =
        Outline { max_part_size: Some(max_part_size), ..Outline::of_model(model, metadata) };
    let mut stream = Stream::create(files, path, outline)?;
    let mut writing = Writing { stream: &mut stream, result: Ok(()) };
    walk(model, &mut writing);
    writing.result.and_then(|()| stream.finish()).map_err(changed)
}

/// What a model declares is its own: another tensor means that it has changed.
fn changed(error: RecordError) -> RecordError {
    match error {
        RecordError::NotDeclared { id, .. } | RecordError::Unfinished { id: Some(id) } => {
            RecordError::Changed { id }
        }
        other => other,
    }
}

/// Writes the tensors that a walk comes by, up to the first error.
struct Writing<'a, F: Files> {
    stream: &'a mut Stream<F>,
    result: Result<(), RecordError>,
}

impl<F: Files> Leaves for Writing<'_, F> {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        if self.result.is_ok() {
            self.result = self.stream.write(site.path, param);
        }
    }
}
