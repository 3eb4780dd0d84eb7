//! The header as it is encoded. [`validate`](super::validate) checks its content.
//!
//! Every field is a number, a string or a list, so the bytes follow from bincode's fixed-width
//! little-endian rules alone and do not depend on the order of enum variants. Fixed widths make the
//! length of a header depend only on names and ranks: a writer can leave room for the header, write
//! the payloads, and fill in their checksums at the end.

use alloc::borrow::Cow;
use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::alias;
use super::codec::{config, list};
use super::encoding::Encoding;
use super::error::RecordFormatError;
use super::layout::{HEADER_LIMIT, header_len, sections_start};
use super::section::{ALIGNMENT, Section};
use super::version::RecordVersion;

/// The content of a header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header<'a> {
    #[serde(borrow, deserialize_with = "list")]
    pub(crate) metadata: Vec<MetadataEntry<'a>>,
    #[serde(borrow, deserialize_with = "list")]
    pub(crate) tensors: Vec<TensorEntry<'a>>,
    #[serde(borrow, deserialize_with = "list")]
    pub(crate) states: Vec<StateEntry<'a>>,
}

/// A pair of the user's metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetadataEntry<'a> {
    #[serde(borrow)]
    pub(crate) key: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) value: Cow<'a, str>,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TensorEntry<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(deserialize_with = "list")]
    pub(crate) shape: Vec<u64>,
    pub(crate) encoding: Encoding,
    /// Values, scales and zero points; empty where the tensor has none.
    pub(crate) sections: [Section; 3],
}

/// A state: bytes that a module keeps besides its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateEntry<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) section: Section,
}

impl Header<'_> {
    /// The encoded length of three empty lists.
    pub(crate) const EMPTY_LEN: usize = 24;
}

impl MetadataEntry<'_> {
    /// The encoded length in bytes.
    pub(crate) fn encoded_len(&self) -> usize {
        16 + self.key.len() + self.value.len()
    }
}

impl TensorEntry<'_> {
    /// The encoded length in bytes.
    pub(crate) fn encoded_len(&self) -> usize {
        16 + self.name.len() + 8 * self.shape.len() + 13 + 3 * Section::ENCODED_LEN
    }
}

impl StateEntry<'_> {
    /// The encoded length in bytes.
    pub(crate) fn encoded_len(&self) -> usize {
        16 + self.name.len() + self.kind.len() + Section::ENCODED_LEN
    }
}

/// Assigns an offset to every section; returns the start of the first and the end of the last.
pub(crate) fn lay_out(header: &mut Header<'_>) -> Result<Range<u64>, RecordFormatError> {
    // The length does not depend on the offsets, which are still zero.
    let encoded = header.encode()?;
    header_len(encoded.len() as u64)?;
    let start = sections_start(encoded.len());
    let mut at = start;
    for section in header.sections_mut() {
        section.offset = at;
        // `validate` rejects lengths that overflow.
        at = section.padded_end().unwrap_or(u64::MAX - ALIGNMENT + 1);
    }
    Ok(start..at)
}

impl<'a> Header<'a> {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, RecordFormatError> {
        bincode::serde::encode_to_vec(self, config::<HEADER_LIMIT>())
            .map_err(|error| RecordFormatError::HeaderEncoding { source: Box::new(error) })
    }

    /// Decodes a header that extends to the end of `bytes`.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, RecordFormatError> {
        let (header, read) =
            bincode::serde::borrow_decode_from_slice(bytes, config::<HEADER_LIMIT>())
                .map_err(|error| RecordFormatError::HeaderEncoding { source: Box::new(error) })?;
        if read < bytes.len() {
            return Err(RecordFormatError::HeaderLen { declared: bytes.len(), used: read });
        }
        Ok(header)
    }

    /// The version in which a record with this header is written: the one that was asked for, or the
    /// oldest one that stores each tensor in its smallest form.
    pub(crate) fn version(
        &self,
        asked: Option<RecordVersion>,
    ) -> Result<RecordVersion, RecordFormatError> {
        let alias = self.metadata.iter().find(|pair| alias::is_alias(pair));
        let Some(version) = asked else {
            let versions = self.tensors.iter().map(|tensor| tensor.encoding.version());
            let versions = versions.chain(alias.map(|_| RecordVersion::V2));
            return Ok(versions.max().unwrap_or(RecordVersion::V1));
        };
        if let Some(pair) = alias.filter(|_| version < RecordVersion::V2) {
            let (id, needed) = (pair.key[alias::PREFIX.len()..].into(), RecordVersion::V2);
            return Err(RecordFormatError::NewerVersion { id, needed, asked: version });
        }
        let is_newer = |tensor: &&TensorEntry<'_>| tensor.encoding.stored(version).is_err();
        match self.tensors.iter().find(is_newer) {
            Some(tensor) => Err(RecordFormatError::NewerVersion {
                id: (&*tensor.name).into(),
                needed: tensor.encoding.version(),
                asked: version,
            }),
            None => Ok(version),
        }
    }

    /// All sections, in the order of the file.
    pub(crate) fn sections_mut(&mut self) -> impl Iterator<Item = &mut Section> {
        let tensors = self.tensors.iter_mut().flat_map(|tensor| &mut tensor.sections);
        tensors.chain(self.states.iter_mut().map(|state| &mut state.section))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::format::entry::Stored;
    use crate::scheme::QuantizationScheme;

    fn entry(stored: impl Into<Stored>) -> TensorEntry<'static> {
        let section = Section { offset: 64, len: 7, crc32: 0x0403_0201 };
        TensorEntry {
            name: "w".into(),
            shape: vec![2, 3],
            encoding: Encoding::of(stored.into()),
            sections: [section, Section::default(), Section::default()],
        }
    }

    #[test]
    fn header_round_trip() {
        let header = Header {
            metadata: vec![MetadataEntry { key: "k".into(), value: "v".into() }],
            tensors: vec![
                entry(None),
                entry("per-block-affine-int3:len=7".parse::<QuantizationScheme>().ok()),
            ],
            states: vec![StateEntry {
                name: "s".into(),
                kind: "t".into(),
                section: Section::default(),
            }],
        };
        let bytes = header.encode().unwrap();
        assert_eq!(Header::decode(&bytes).unwrap(), header);
        let entries = header.metadata.iter().map(MetadataEntry::encoded_len).sum::<usize>()
            + header.tensors.iter().map(TensorEntry::encoded_len).sum::<usize>()
            + header.states.iter().map(StateEntry::encoded_len).sum::<usize>();
        assert_eq!(bytes.len(), Header::EMPTY_LEN + entries);
    }

    /// Compares with the bytes in `docs/record-format.md`.
    #[test]
    fn a_tensor_is_encoded_as_documented() {
        let scheme: QuantizationScheme = "per-channel-affine-int4:axis=-1".parse().unwrap();
        let header = Header { tensors: vec![entry(scheme)], ..Header::default() };
        let mut expected = Vec::new();
        expected.extend(0u64.to_le_bytes()); // no metadata
        expected.extend(1u64.to_le_bytes()); // one tensor
        expected.extend(1u64.to_le_bytes());
        expected.extend(b"w");
        expected.extend(2u64.to_le_bytes()); // the rank
        expected.extend([2u64, 3].map(u64::to_le_bytes).concat());
        expected.extend([1, 4, 1, 1, 0]);
        expected.extend((-1i32).to_le_bytes());
        expected.extend(0u32.to_le_bytes());
        expected.extend([64u64, 7].map(u64::to_le_bytes).concat());
        expected.extend([1, 2, 3, 4]);
        expected.extend([0; 40]); // the other two sections
        expected.extend(0u64.to_le_bytes()); // no states
        assert_eq!(header.encode().unwrap(), expected);
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        for counts in [vec![u64::MAX], vec![0, u64::MAX], vec![0, 0, u64::MAX], vec![0, 0, 0, 0]] {
            let bytes: Vec<u8> = counts.into_iter().flat_map(u64::to_le_bytes).collect();
            assert!(Header::decode(&bytes).is_err());
        }
    }
}
