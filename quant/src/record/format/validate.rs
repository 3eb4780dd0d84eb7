//! The one place where a header's claims are compared with each other and with the bytes present.
//!
//! The writer calls it before it writes, the reader before it allocates: what passes is a record,
//! except for checksums, padding and the values themselves.

use std::collections::HashSet;

use super::entry::RecordEntry;
use super::header::{Header, MetadataEntry, StateEntry, TensorEntry};
use super::layout::ALIGNMENT;
use super::section::{Part, Section, TENSOR_PARTS, section_lens};
use crate::module::ParamId;
use crate::record::error::RecordError;

/// A header whose claims hold.
pub(crate) struct Checked<'a> {
    pub(crate) metadata: Vec<MetadataEntry<'a>>,
    pub(crate) tensors: Vec<CheckedTensor>,
    pub(crate) states: Vec<StateEntry<'a>>,
}

/// A parameter whose sections have the lengths that shape and scheme ask for.
pub(crate) struct CheckedTensor {
    pub(crate) entry: RecordEntry,
    pub(crate) sections: [Section; 3],
}

/// Checks a header whose sections take the bytes from `start` to `end`.
pub(crate) fn validate(
    header: Header<'_>,
    start: u64,
    end: u64,
) -> Result<Checked<'_>, RecordError> {
    ascending(&header.metadata)?;
    distinct(header.tensors.iter().map(|tensor| &*tensor.name))?;
    distinct(header.states.iter().map(|state| &*state.name))?;
    let mut cursor = Cursor { at: start, end };
    for tensor in &header.tensors {
        for (part, section) in TENSOR_PARTS.into_iter().zip(tensor.sections) {
            cursor.claim(&tensor.name, part, section)?;
        }
    }
    for state in &header.states {
        cursor.claim(&state.name, Part::State, state.section)?;
    }
    cursor.finish()?;
    let tensors = header.tensors.into_iter().map(check_tensor).collect::<Result<_, _>>()?;
    Ok(Checked { metadata: header.metadata, tensors, states: header.states })
}

fn ascending(metadata: &[MetadataEntry<'_>]) -> Result<(), RecordError> {
    match metadata.windows(2).find(|pair| pair[0].key >= pair[1].key) {
        Some(pair) => Err(RecordError::MetadataOrder { key: pair[1].key.clone().into_owned() }),
        None => Ok(()),
    }
}

/// Checks that no name is there twice.
pub fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), RecordError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(RecordError::DuplicateName { id: name.into() });
        }
    }
    Ok(())
}

/// Lays sections end to end, each padded to the next boundary.
struct Cursor {
    at: u64,
    end: u64,
}

impl Cursor {
    fn claim(&mut self, name: &str, part: Part, section: Section) -> Result<(), RecordError> {
        let Section { offset, len, .. } = section;
        let (id, expected) = (|| ParamId::new(name), self.at);
        if !offset.is_multiple_of(ALIGNMENT) {
            return Err(RecordError::Unaligned { id: id(), part, offset });
        }
        if offset < expected {
            return Err(RecordError::Overlap { id: id(), part, offset, expected });
        }
        if offset > expected {
            return Err(RecordError::Gap { id: id(), part, offset, expected });
        }
        let available = self.end.saturating_sub(offset);
        match section.padded_end() {
            Some(end) if end <= self.end => self.at = end,
            _ => return Err(RecordError::PastEnd { id: id(), part, len, available }),
        }
        // Sections of no bytes are never read, so their checksum is compared here.
        match section {
            Section { len: 0, crc32, .. } if crc32 != 0 => {
                Err(RecordError::Checksum { id: id(), part, stored: crc32, computed: 0 })
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<(), RecordError> {
        if self.at == self.end {
            Ok(())
        } else {
            Err(RecordError::FileLen { said: self.end, needed: self.at })
        }
    }
}

fn check_tensor(entry: TensorEntry<'_>) -> Result<CheckedTensor, RecordError> {
    let id = || ParamId::new(&*entry.name);
    let scheme = entry.encoding.scheme().map_err(|bad| RecordError::Encoding {
        id: id(),
        field: bad.field,
        value: bad.value,
    })?;
    let Some(shape) = countable(&entry.shape) else {
        return Err(RecordError::Shape { id: id(), shape: entry.shape });
    };
    let needed = match section_lens(&shape, scheme) {
        Ok(Some(needed)) => needed,
        Ok(None) => return Err(RecordError::Shape { id: id(), shape: entry.shape }),
        Err(source) => return Err(RecordError::Tensor { id: id(), source }),
    };
    for ((part, section), expected) in TENSOR_PARTS.into_iter().zip(entry.sections).zip(needed) {
        if section.len != expected {
            let found = section.len;
            return Err(RecordError::SectionLen { id: id(), part, expected, found });
        }
    }
    Ok(CheckedTensor { entry: RecordEntry::new(id(), shape, scheme), sections: entry.sections })
}

/// The shape, if no product of its extents overflows, whichever of them are zero.
fn countable(shape: &[u64]) -> Option<Vec<usize>> {
    let shape: Vec<usize> =
        shape.iter().map(|&extent| extent.try_into().ok()).collect::<Option<_>>()?;
    shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent.max(1)))?;
    Some(shape)
}
