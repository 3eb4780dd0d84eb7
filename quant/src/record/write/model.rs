//! Writing models: one walk measures every section, another one writes it.
//!
//! Float values in standard layout are written from the memory of the model, without a copy. Sections
//! are measured again while they are written, so that a model that changes in between is an error and
//! not a damaged record.

use alloc::collections::BTreeMap;
use core::ops::Range;
use std::io::Write;
use std::path::Path;

use super::atomic::Files;
use super::error::{ManifestError, WriteError};
use super::manifest::Manifest;
use super::payload::Payload;
use super::sink::Sink;
use super::stream::Stream;
use crate::module::{Leaves, ParamId, ParamView, Site, StateLeaf, Walk, walk};
use crate::record::format::alias;
use crate::record::format::encoding::Encoding;
use crate::record::format::entry::Stored;
use crate::record::format::header::{Header, StateEntry, TensorEntry, lay_out};
use crate::record::format::layout::Prelude;
use crate::record::format::section::{Section, SectionKind};
use crate::record::format::validate::{CheckedHeader, validate};
use crate::record::format::version::RecordVersion;

/// Writes a model to a writer. Pairs of `metadata` replace those of the model.
pub(crate) fn whole(
    model: &dyn Walk,
    metadata: &BTreeMap<String, String>,
    version: Option<RecordVersion>,
    writer: &mut dyn Write,
) -> Result<(), WriteError> {
    // Codes of a type that this version stores otherwise make the record one of this version.
    let form = version.unwrap_or(RecordVersion::NEWEST);
    let mut draft = Draft { form, metadata: BTreeMap::new(), header: Header::default() };
    walk(model, &mut draft);
    draft.metadata.extend(metadata.clone());
    let (header, Range { start, end }) = draft.finish()?;
    let bytes = header.encode()?;
    let version = header.version(version)?;
    let prelude = Prelude::new(version, &bytes, end);
    let checked = validate(version, header, start, end)?;
    let mut sink = Sink { writer, at: 0 };
    sink.write(&prelude.encode())?;
    sink.write(&bytes)?;
    sink.pad()?;
    write_sections(model, form, &checked, &mut sink)?;
    Ok(sink.writer.flush()?)
}

/// The header of a model, before its sections have offsets.
struct Draft {
    /// The version whose form payloads have.
    form: RecordVersion,
    metadata: BTreeMap<String, String>,
    header: Header<'static>,
}

impl Leaves for Draft {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        self.header.tensors.push(TensorEntry {
            name: site.path.to_owned().into(),
            shape: param.shape().iter().map(|&extent| extent as u64).collect(),
            encoding: Encoding::of(Stored::of(param)),
            sections: Payload::of_version(param, self.form).map(|payload| measured(&payload)),
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
    /// The header with the offsets of all sections, and the byte range of the sections.
    fn finish(self) -> Result<(Header<'static>, Range<u64>), WriteError> {
        let mut header = self.header;
        header.metadata = alias::entries(self.metadata, &BTreeMap::new());
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
    form: RecordVersion,
    checked: &CheckedHeader<'_>,
    sink: &mut Sink<&mut dyn Write>,
) -> Result<(), WriteError> {
    let tensors = checked.tensors.iter().flat_map(|tensor| {
        tensor.sections.into_iter().map(|section| (tensor.entry.id.as_str(), section))
    });
    let states = checked.states.iter().map(|state| (&*state.name, state.section));
    run(model, SectionWriter::new(SectionKind::Values, form, tensors, sink))?;
    run(model, SectionWriter::new(SectionKind::State, form, states, sink))
}

/// Writes the sections of the visited leaves as long as they are the expected ones.
struct SectionWriter<'a, 'w, I> {
    /// `Values` to write parameters, `State` to write states.
    kind: SectionKind,
    form: RecordVersion,
    expected: I,
    sink: &'a mut Sink<&'w mut dyn Write>,
    result: Result<(), WriteError>,
}

fn run<'h>(
    model: &dyn Walk,
    mut writer: SectionWriter<'_, '_, impl Iterator<Item = (&'h str, Section)>>,
) -> Result<(), WriteError> {
    walk(model, &mut writer);
    writer.result?;
    match writer.expected.next() {
        Some((name, _)) => Err(ManifestError::Changed { id: name.into() }.into()),
        None => Ok(()),
    }
}

impl<'a, 'w, 'h, I: Iterator<Item = (&'h str, Section)>> SectionWriter<'a, 'w, I> {
    fn new(
        kind: SectionKind,
        form: RecordVersion,
        expected: I,
        sink: &'a mut Sink<&'w mut dyn Write>,
    ) -> Self {
        Self { kind, form, expected, sink, result: Ok(()) }
    }

    fn put(&mut self, site: Site<'_>, payload: &Payload<'_>) {
        if self.result.is_ok() {
            self.result = self.try_put(site.path, payload);
        }
    }

    fn try_put(&mut self, path: &str, payload: &Payload<'_>) -> Result<(), WriteError> {
        if let Some((name, section)) = self.expected.next()
            && name == path
            && self.sink.section(payload)? == section
        {
            return Ok(());
        }
        Err(ManifestError::Changed { id: ParamId::new(path) }.into())
    }
}

impl<'h, I: Iterator<Item = (&'h str, Section)>> Leaves for SectionWriter<'_, '_, I> {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        if self.kind == SectionKind::Values {
            let payloads = Payload::of_version(param, self.form);
            payloads.iter().for_each(|payload| self.put(site, payload));
        }
    }

    fn saved_state(&mut self, site: Site<'_>, _kind: &str, data: &[u8]) {
        if self.kind == SectionKind::State {
            self.put(site, &Payload::Bytes(data));
        }
    }

    fn state(&mut self, site: Site<'_>, leaf: &dyn StateLeaf) {
        if let Some(data) = leaf.save() {
            self.saved_state(site, leaf.kind(), &data);
        }
    }
}

/// Writes a model in shards. Pairs of `metadata` replace those of the model.
pub(crate) fn sharded<F: Files>(
    model: &dyn Walk,
    metadata: &BTreeMap<String, String>,
    version: Option<RecordVersion>,
    max_shard_size: u64,
    files: F,
    path: &Path,
) -> Result<(), WriteError> {
    let manifest = Manifest::of_model(model, metadata);
    let manifest = Manifest { version, max_shard_size: Some(max_shard_size), ..manifest };
    let mut stream = Stream::create(files, path, manifest)?;
    let mut writing = Writing { stream: &mut stream, result: Ok(()) };
    walk(model, &mut writing);
    writing.result.and_then(|()| stream.finish()).map_err(changed)
}

/// A model declares its own tensors: if another one is written, the model has changed.
fn changed(error: WriteError) -> WriteError {
    match error {
        WriteError::Manifest(
            ManifestError::Unexpected { id, .. } | ManifestError::Missing { id },
        ) => ManifestError::Changed { id }.into(),
        other => other,
    }
}

/// Writes the visited parameters up to the first error.
struct Writing<'a, F: Files> {
    stream: &'a mut Stream<F>,
    result: Result<(), WriteError>,
}

impl<F: Files> Leaves for Writing<'_, F> {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        if self.result.is_ok() {
            self.result = self.stream.write(site.path, param);
        }
    }
}
