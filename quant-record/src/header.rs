//! The entries of a header, decoded one at a time.

use crate::bytes::Bytes;
use crate::encoding::Encoding;
use crate::error::RecordError;
use crate::limits::ENTRY_LIMIT;

/// A section as the header describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc32: u32,
}

/// A pair of metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: &'a str,
}

/// A tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorEntry<'a> {
    pub(crate) name: &'a str,
    /// 8 bytes for each extent.
    pub(crate) extents: &'a [u8],
    pub(crate) encoding: Encoding,
    /// Values, scales, and zero points or minimums.
    pub(crate) sections: [Section; 3],
}

/// A state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateEntry<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) section: Section,
}

/// An entry of one of the lists of a header.
pub(crate) trait Entry<'a>: Sized {
    fn decode(bytes: &mut Bytes<'a>) -> Option<Self>;
}

impl Section {
    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self { offset: bytes.u64()?, len: bytes.u64()?, crc32: bytes.u32()? })
    }
}

impl<'a> Entry<'a> for Pair<'a> {
    fn decode(bytes: &mut Bytes<'a>) -> Option<Self> {
        Some(Self { key: bytes.string()?, value: bytes.string()? })
    }
}

impl<'a> Entry<'a> for TensorEntry<'a> {
    fn decode(bytes: &mut Bytes<'a>) -> Option<Self> {
        Some(Self {
            name: bytes.string()?,
            extents: bytes.extents()?,
            encoding: Encoding::decode(bytes)?,
            sections: [Section::decode(bytes)?, Section::decode(bytes)?, Section::decode(bytes)?],
        })
    }
}

impl<'a> Entry<'a> for StateEntry<'a> {
    fn decode(bytes: &mut Bytes<'a>) -> Option<Self> {
        Some(Self {
            name: bytes.string()?,
            kind: bytes.string()?,
            section: Section::decode(bytes)?,
        })
    }
}

/// The three lists of a header, each of which has been decoded once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'a> {
    metadata: List<'a>,
    tensors: List<'a>,
    states: List<'a>,
}

/// A list of `count` entries.
#[derive(Clone, Copy, Debug)]
struct List<'a> {
    entries: Bytes<'a>,
    count: usize,
}

impl<'a> Header<'a> {
    /// The header that these bytes are, to the last one.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, RecordError<'a>> {
        let mut bytes = Bytes(bytes);
        let header = Self {
            metadata: List::decode::<Pair<'_>>(&mut bytes)?,
            tensors: List::decode::<TensorEntry<'_>>(&mut bytes)?,
            states: List::decode::<StateEntry<'_>>(&mut bytes)?,
        };
        if bytes.0.is_empty() { Ok(header) } else { Err(RecordError::HeaderEncoding) }
    }

    pub(crate) fn metadata(&self) -> Entries<'a, Pair<'a>> {
        self.metadata.iter()
    }

    pub(crate) fn tensors(&self) -> Entries<'a, TensorEntry<'a>> {
        self.tensors.iter()
    }

    pub(crate) fn states(&self) -> Entries<'a, StateEntry<'a>> {
        self.states.iter()
    }
}

impl<'a> List<'a> {
    /// The next list, all of whose entries can be decoded.
    fn decode<E: Entry<'a>>(bytes: &mut Bytes<'a>) -> Result<Self, RecordError<'a>> {
        let count = bytes.u64().ok_or(RecordError::HeaderEncoding)?;
        let entries = *bytes;
        if count > ENTRY_LIMIT as u64 {
            // An entry takes 16 bytes or more: so many may not be there at all.
            let is_there = count <= (bytes.0.len() / 16) as u64;
            let error = RecordError::TooManyEntries { count };
            return Err(if is_there { error } else { RecordError::HeaderEncoding });
        }
        for _ in 0..count {
            E::decode(bytes).ok_or(RecordError::HeaderEncoding)?;
        }
        Ok(Self { entries, count: count as usize })
    }

    fn iter<E>(self) -> Entries<'a, E> {
        let Self { entries, count } = self;
        Entries { rest: entries, left: count, entry: core::marker::PhantomData }
    }
}

/// The entries of a list in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries<'a, E> {
    rest: Bytes<'a>,
    left: usize,
    entry: core::marker::PhantomData<E>,
}

impl<'a, E: Entry<'a>> Iterator for Entries<'a, E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        self.left = self.left.checked_sub(1)?;
        E::decode(&mut self.rest)
    }
}
