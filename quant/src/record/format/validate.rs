//! The one place where the claims of a header are compared with each other and the file length.
//!
//! Writers call it before they write, readers before they allocate. What remains to be checked are
//! checksums, padding and the values themselves.

use std::collections::HashSet;

use super::alias;
use super::entry::RecordEntry;
use super::error::RecordFormatError;
use super::header::{Header, MetadataEntry, StateEntry, TensorEntry};
use super::section::{
    ALIGNMENT, Section, SectionKind, TENSOR_SECTIONS, section_lens, tensor_sections,
};
use super::version::RecordVersion;
use crate::module::ParamId;

/// A header that has been validated.
pub(crate) struct CheckedHeader<'a> {
    pub(crate) metadata: Vec<MetadataEntry<'a>>,
    pub(crate) tensors: Vec<CheckedTensor>,
    pub(crate) states: Vec<StateEntry<'a>>,
    /// Other names of tensors, and the positions of those.
    pub(crate) aliases: Vec<(ParamId, usize)>,
}

/// A tensor whose section lengths match its shape and how it is stored.
pub(crate) struct CheckedTensor {
    pub(crate) entry: RecordEntry,
    pub(crate) sections: [Section; 3],
}

/// Validates the header of a record of this version, whose sections extend from byte `start` to
/// byte `end`.
pub(crate) fn validate(
    version: RecordVersion,
    header: Header<'_>,
    start: u64,
    end: u64,
) -> Result<CheckedHeader<'_>, RecordFormatError> {
    ascending(&header.metadata)?;
    check_distinct(header.tensors.iter().map(|tensor| &*tensor.name))?;
    check_distinct(header.states.iter().map(|state| &*state.name))?;
    let mut cursor = Cursor { at: start, end };
    for tensor in &header.tensors {
        for (kind, section) in TENSOR_SECTIONS.into_iter().zip(tensor.sections) {
            cursor.claim(&tensor.name, kind, section)?;
        }
    }
    for state in &header.states {
        cursor.claim(&state.name, SectionKind::State, state.section)?;
    }
    cursor.finish()?;
    let tensors = header.tensors.into_iter().map(|tensor| check_tensor(version, tensor));
    let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
    let has_aliases = version >= RecordVersion::V2;
    let is_alias = |pair: &MetadataEntry<'_>| has_aliases && alias::is_alias(pair);
    let (aliases, metadata): (Vec<_>, Vec<_>) = header.metadata.into_iter().partition(is_alias);
    let aliases = alias::resolve(&aliases, &tensors, end)?;
    // A file of version 1 may be older than aliases, and have such keys as they are.
    let is_escaped = !metadata.iter().any(alias::is_alias);
    let user = |pair| if is_escaped { alias::unescaped(pair) } else { pair };
    let metadata = metadata.into_iter().map(user).collect();
    Ok(CheckedHeader { metadata, tensors, states: header.states, aliases })
}

fn ascending(metadata: &[MetadataEntry<'_>]) -> Result<(), RecordFormatError> {
    match metadata.windows(2).find(|pair| pair[0].key >= pair[1].key) {
        Some(pair) => {
            Err(RecordFormatError::MetadataOrder { key: pair[1].key.clone().into_owned() })
        }
        None => Ok(()),
    }
}

/// Checks that no two names are equal.
pub fn check_distinct<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), RecordFormatError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(RecordFormatError::DuplicateName { id: name.into() });
        }
    }
    Ok(())
}

/// Checks that sections lie end to end, each padded to the next multiple of 64.
struct Cursor {
    at: u64,
    end: u64,
}

impl Cursor {
    fn claim(
        &mut self,
        name: &str,
        kind: SectionKind,
        section: Section,
    ) -> Result<(), RecordFormatError> {
        let Section { offset, len, .. } = section;
        let (id, expected) = (|| ParamId::new(name), self.at);
        if !offset.is_multiple_of(ALIGNMENT) {
            return Err(RecordFormatError::Unaligned { id: id(), kind, offset });
        }
        if offset < expected {
            return Err(RecordFormatError::Overlap { id: id(), kind, offset, expected });
        }
        if offset > expected {
            return Err(RecordFormatError::Gap { id: id(), kind, offset, expected });
        }
        let available = self.end.saturating_sub(offset);
        match section.padded_end() {
            Some(end) if end <= self.end => self.at = end,
            _ => return Err(RecordFormatError::PastEnd { id: id(), kind, len, available }),
        }
        // Empty sections are never read, so their checksum is compared here.
        match section {
            Section { len: 0, crc32, .. } if crc32 != 0 => {
                Err(RecordFormatError::SectionChecksum {
                    id: id(),
                    kind,
                    stored: crc32,
                    computed: 0,
                })
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<(), RecordFormatError> {
        if self.at == self.end {
            Ok(())
        } else {
            Err(RecordFormatError::FileLen { declared: self.end, needed: self.at })
        }
    }
}

fn check_tensor(
    version: RecordVersion,
    entry: TensorEntry<'_>,
) -> Result<CheckedTensor, RecordFormatError> {
    let id = || ParamId::new(&*entry.name);
    let stored = entry.encoding.stored(version).map_err(|bad| RecordFormatError::Encoding {
        id: id(),
        field: bad.field,
        value: bad.value,
    })?;
    let Some(shape) = countable(&entry.shape) else {
        return Err(RecordFormatError::Shape { id: id(), shape: entry.shape });
    };
    let needed = match section_lens(&shape, stored, version) {
        Ok(Some(needed)) => needed,
        Ok(None) => return Err(RecordFormatError::Shape { id: id(), shape: entry.shape }),
        Err(source) => return Err(RecordFormatError::Tensor { id: id(), source }),
    };
    let kinds = tensor_sections(stored).into_iter();
    for ((kind, section), expected) in kinds.zip(entry.sections).zip(needed) {
        if section.len != expected {
            let found = section.len;
            return Err(RecordFormatError::SectionLen { id: id(), kind, expected, found });
        }
    }
    Ok(CheckedTensor { entry: RecordEntry::new(id(), shape, stored), sections: entry.sections })
}

/// The shape, unless the product of its extents overflows with each 0 counted as 1.
fn countable(shape: &[u64]) -> Option<Vec<usize>> {
    let shape: Vec<usize> =
        shape.iter().map(|&extent| extent.try_into().ok()).collect::<Option<_>>()?;
    shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent.max(1)))?;
    Some(shape)
}
