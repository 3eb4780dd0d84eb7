//! Planning the files of a record: one, or several shards.

use core::ops::Range;

use super::manifest::{LaterState, Manifest};
use crate::module::ParamId;
use crate::record::format::alias;
use crate::record::format::encoding::Encoding;
use crate::record::format::entry::{RecordEntry, RecordState};
use crate::record::format::error::RecordFormatError;
use crate::record::format::header::{Header, MetadataEntry, StateEntry, TensorEntry, lay_out};
use crate::record::format::layout::PRELUDE_LEN;
use crate::record::format::section::{ALIGNMENT, Section, section_lens};
use crate::record::format::validate::{check_distinct, validate};
use crate::record::format::version::RecordVersion;

/// A file of a record that is going to be written.
pub(super) struct PlannedFile {
    pub(super) version: RecordVersion,
    /// Complete except for checksums.
    pub(super) header: Header<'static>,
    /// The start of the first section.
    pub(super) start: u64,
}

impl PlannedFile {
    fn new(
        asked: Option<RecordVersion>,
        mut header: Header<'static>,
    ) -> Result<Self, RecordFormatError> {
        let Range { start, end } = lay_out(&mut header)?;
        let version = header.version(asked)?;
        validate(version, header.clone(), start, end)?;
        Ok(Self { version, header, start })
    }
}

/// Plans and validates the files of a record.
pub(super) fn plan(manifest: &Manifest) -> Result<Vec<PlannedFile>, RecordFormatError> {
    // Codes of a type that this version stores otherwise make a file one of this version.
    let form = manifest.version.unwrap_or(RecordVersion::NEWEST);
    let tensors = manifest.entries.iter().map(|entry| tensor_entry(form, entry));
    let whole = Header {
        metadata: alias::entries(manifest.metadata.clone(), &manifest.aliases),
        tensors: tensors.collect::<Result<_, _>>()?,
        states: manifest
            .states
            .iter()
            .map(state_entry)
            .chain(manifest.later_states.iter().map(later_state_entry))
            .collect(),
    };
    check_distinct(whole.tensors.iter().map(|tensor| &*tensor.name))?;
    check_distinct(whole.states.iter().map(|state| &*state.name))?;
    let headers = match manifest.max_shard_size {
        None => vec![whole],
        Some(max) => split(whole, max),
    };
    headers.into_iter().map(|header| PlannedFile::new(manifest.version, header)).collect()
}

/// Splits a record, in order, into files of at most `max` bytes, or of a single tensor or state.
fn split(whole: Header<'static>, max: u64) -> Vec<Header<'static>> {
    let mut files = vec![Header { metadata: whole.metadata, ..Header::default() }];
    let metadata: usize = files[0].metadata.iter().map(MetadataEntry::encoded_len).sum();
    let mut size = FileSize { header: Header::EMPTY_LEN + metadata, sections: 0 };
    for tensor in whole.tensors {
        let more = FileSize::of(tensor.encoded_len(), &tensor.sections);
        size.add(more, max, &mut files);
        files.last_mut().expect("there is at least one file").tensors.push(tensor);
    }
    for state in whole.states {
        let more = FileSize::of(state.encoded_len(), &[state.section]);
        size.add(more, max, &mut files);
        files.last_mut().expect("there is at least one file").states.push(state);
    }
    files
}

/// The size of a file, or of an addition to it, in bytes.
#[derive(Clone, Copy)]
struct FileSize {
    header: usize,
    /// Includes padding.
    sections: u64,
}

impl FileSize {
    fn of(header: usize, sections: &[Section]) -> Self {
        let padded = sections.iter().map(|section| section.padded_end().unwrap_or(u64::MAX));
        Self { header, sections: padded.fold(0, u64::saturating_add) }
    }

    fn file_len(self) -> u64 {
        let header = (PRELUDE_LEN + self.header) as u64;
        header.next_multiple_of(ALIGNMENT).saturating_add(self.sections)
    }

    /// Adds to the last file, or to a new one if the last would become too large.
    fn add(&mut self, more: Self, max: u64, files: &mut Vec<Header<'static>>) {
        let sections = self.sections.saturating_add(more.sections);
        let sum = Self { header: self.header + more.header, sections };
        let first =
            files.last().is_none_or(|file| file.tensors.is_empty() && file.states.is_empty());
        if first || sum.file_len() <= max {
            *self = sum;
            return;
        }
        files.push(Header::default());
        *self = Self { header: Header::EMPTY_LEN + more.header, ..more };
    }
}

fn tensor_entry(
    form: RecordVersion,
    entry: &RecordEntry,
) -> Result<TensorEntry<'static>, RecordFormatError> {
    let RecordEntry { id, shape, stored } = entry;
    let shape: Vec<u64> = shape.iter().map(|&extent| extent as u64).collect();
    let lens = match section_lens(&entry.shape, *stored, form) {
        Ok(Some(lens)) => lens,
        Ok(None) => return Err(RecordFormatError::Shape { id: id.clone(), shape }),
        Err(source) => return Err(RecordFormatError::Tensor { id: id.clone(), source }),
    };
    Ok(TensorEntry {
        name: id.as_str().to_owned().into(),
        shape,
        encoding: Encoding::of(*stored),
        sections: lens.map(|len| Section { len, ..Section::default() }),
    })
}

fn state_entry(state: &RecordState) -> StateEntry<'static> {
    let RecordState { id, kind, data } = state;
    new_state_entry(id, kind, data.len() as u64)
}

fn later_state_entry(LaterState { id, kind, len }: &LaterState) -> StateEntry<'static> {
    new_state_entry(id, kind, *len)
}

fn new_state_entry(id: &ParamId, kind: &str, len: u64) -> StateEntry<'static> {
    StateEntry {
        name: id.as_str().to_owned().into(),
        kind: kind.to_owned().into(),
        section: Section { len, ..Section::default() },
    }
}
