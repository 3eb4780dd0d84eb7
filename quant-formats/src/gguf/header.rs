//! The header of a file: metadata, and the position of each tensor.
//!
//! ```text
//! magic      "GGUF"
//! version    u32
//! tensors    u64                         their number
//! pairs      u64                         their number
//! pair       key, type (u32), value      for each
//! info       name, rank (u32), extents (u64 each, fastest first), type (u32), offset (u64)
//! padding    to the alignment
//! data       tensors, each at its offset from here
//! ```
//!
//! A name or key is a length (u64) and as many bytes. Numbers are little endian.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;

use quant::ParamId;
use quant::RecordError;

use super::cursor::Cursor;
use super::error::GgufError;
use super::metadata::{ALIGNMENT, Pair};
use crate::format::FormatError;
use crate::ggml::{GgufType, REFUSED};
use crate::text::shorten;

/// The first bytes of a file.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written. Version 2 differs in that it has no big-endian files.
pub(super) const VERSION: u32 = 3;

/// The alignment of files whose metadata has none.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;

/// The greatest number of axes.
pub(super) const MAX_RANK: usize = 4;

/// The metadata of a file, and the positions of its tensors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) alignment: u32,
    pub(super) pairs: Vec<Pair>,
    /// In the order of the header; the order of their bytes may differ.
    pub(super) tensors: Vec<Slot>,
    /// All bytes of the header, without padding at its end.
    pub(super) bytes: Vec<u8>,
    /// The offset of the descriptions of tensors.
    infos: usize,
}

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) ty: GgufType,
    /// The extent of each axis, outermost first.
    pub(super) shape: Vec<usize>,
    /// The position of its bytes, from the start of the data.
    pub(super) bytes: Range<u64>,
}

impl Header {
    /// Reads the header of a file of `len` bytes, if that is known.
    pub(super) fn read(reader: &mut dyn Read, len: Option<u64>) -> Result<Self, RecordError> {
        let header = Self::read_without_positions(reader, len)?;
        header.check_positions(len)?;
        Ok(header)
    }

    /// As [`read`](Self::read), for a header whose tensors are elsewhere.
    pub(super) fn read_without_positions(
        reader: &mut dyn Read,
        len: Option<u64>,
    ) -> Result<Self, RecordError> {
        let cursor = &mut Cursor::new(reader, len);
        let version = read_version(cursor)?;
        let (tensors, pairs) = (cursor.u64()?, cursor.u64()?);
        let pairs = read_pairs(cursor, pairs)?;
        let alignment = alignment(&pairs, cursor.bytes())?;
        let infos = cursor.at();
        let tensors = read_tensors(cursor, tensors)?;
        Ok(Self { version, alignment, pairs, tensors, infos, bytes: cursor.take_bytes() })
    }

    /// One header for several files, with the metadata of the first one. Keys that start with
    /// `without` are left out.
    pub(super) fn merge(headers: &[Self], without: &str) -> Result<Self, RecordError> {
        let Some(first) = headers.first() else {
            return Self::read(&mut &*start(VERSION, 0, 0), None);
        };
        let pairs = first.pairs.iter().filter(|pair| !pair.key.starts_with(without));
        let tensors = headers.iter().map(|header| header.tensors.len()).sum();
        let mut bytes = start(first.version, tensors, pairs.clone().count());
        pairs.for_each(|pair| bytes.extend(&first.bytes[pair.bytes.clone()]));
        headers.iter().for_each(|header| bytes.extend(&header.bytes[header.infos..]));
        Self::read_without_positions(&mut &*bytes, Some(bytes.len() as u64))
    }

    /// The offset of the first tensor.
    pub(super) fn data(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(self.alignment.into())
    }

    /// The tensors in the order of their positions.
    pub(super) fn by_offset(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        // Tensors without elements share their offset with the next one.
        order.sort_by_key(|&slot| {
            let bytes = &self.tensors[slot].bytes;
            (bytes.start, bytes.end)
        });
        order
    }

    /// Checks that tensors are aligned, do not overlap, and lie inside a file of `len` bytes.
    fn check_positions(&self, len: Option<u64>) -> Result<(), GgufError> {
        let alignment = u64::from(self.alignment);
        let available = len.unwrap_or(u64::MAX).saturating_sub(self.data());
        let mut expected = 0;
        for slot in self.by_offset() {
            let Slot { name, bytes: Range { start: offset, end }, .. } = &self.tensors[slot];
            let (id, offset) = (|| ParamId::new(&**name), *offset);
            if !offset.is_multiple_of(alignment) {
                return Err(GgufError::Unaligned { id: id(), offset, alignment });
            }
            if offset < expected {
                return Err(GgufError::Overlap { id: id(), offset, expected });
            }
            if *end > available {
                return Err(GgufError::PastEnd { id: id(), offset, len: end - offset, available });
            }
            expected = *end;
        }
        Ok(())
    }
}

/// The bytes before the first pair.
pub(super) fn start(version: u32, tensors: usize, pairs: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((tensors as u64).to_le_bytes());
    bytes.extend((pairs as u64).to_le_bytes());
    bytes
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, RecordError> {
    // The caller has recognized the file by the magic; a reader of bytes has not.
    if cursor.array()? != MAGIC {
        return Err(FormatError::Unknown.into());
    }
    match cursor.u32()? {
        version @ 2..=VERSION => Ok(version),
        version if matches!(version.swap_bytes(), 1..=VERSION) => Err(GgufError::BigEndian.into()),
        version => Err(GgufError::Version { version }.into()),
    }
}

fn read_pairs(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Pair>, RecordError> {
    cursor.check_count(count, Pair::LEAST_BYTES)?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push(Pair::read(cursor)?);
    }
    let mut keys = HashSet::new();
    match pairs.iter().find(|pair| !keys.insert(&*pair.key)) {
        Some(pair) => Err(GgufError::DuplicateKey { key: shorten(&pair.key) }.into()),
        None => Ok(pairs),
    }
}

fn alignment(pairs: &[Pair], header: &[u8]) -> Result<u32, GgufError> {
    let Some(pair) = pairs.iter().find(|pair| pair.key == ALIGNMENT) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match pair.u32(header) {
        Some(alignment) if alignment.is_power_of_two() => Ok(alignment),
        alignment => Err(GgufError::Alignment { alignment }),
    }
}

fn read_tensors(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Slot>, RecordError> {
    // The length of a name, the rank, the type and the offset.
    cursor.check_count(count, 8 + 4 + 4 + 8)?;
    let mut tensors = Vec::new();
    for _ in 0..count {
        tensors.push(Slot::read(cursor)?);
    }
    let mut names = HashSet::new();
    match tensors.iter().find(|slot| !names.insert(&*slot.name)) {
        Some(slot) => Err(GgufError::DuplicateName { id: slot.name.as_str().into() }.into()),
        None => Ok(tensors),
    }
}

impl Slot {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, RecordError> {
        let name = cursor.name()?;
        let rank = cursor.u32()?;
        if rank as usize > MAX_RANK {
            return Err(GgufError::Rank { id: name.into(), rank: rank.into() }.into());
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(cursor.u64()?);
        }
        shape.reverse();
        let (ty, offset) = (cursor.u32()?, cursor.u64()?);
        Ok(Self::check(name, shape, ty, offset)?)
    }

    fn check(name: String, shape: Vec<u64>, ty: u32, offset: u64) -> Result<Self, GgufError> {
        let id = || ParamId::new(&*name);
        let Some(ty) = GgufType::of_id(ty) else {
            let refused = REFUSED.iter().find(|&&(id, _)| id == ty);
            return Err(GgufError::Type { id: id(), ty, name: refused.map(|&(_, name)| name) });
        };
        let extents: Option<Vec<usize>> = shape.iter().map(|&n| n.try_into().ok()).collect();
        let sized = extents.and_then(|shape| {
            let end = offset.checked_add(ty.byte_count(&shape)?)?;
            Some((shape, end))
        });
        let Some((shape, end)) = sized else {
            return Err(GgufError::Shape { id: id(), shape });
        };
        if !ty.divides_row(&shape) {
            let row = shape.last().copied().unwrap_or(1);
            return Err(GgufError::Row { id: id(), row, ty });
        }
        Ok(Self { name, ty, shape, bytes: offset..end })
    }
}

#[cfg(test)]
mod tests;
