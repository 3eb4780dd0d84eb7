//! The header: what bincode writes and reads, before its content has been checked.
//!
//! Everything is a number, a string or a list, so that the bytes follow from bincode's fixed-width
//! little-endian rules alone and not from the order of some enum's variants. Widths are fixed so
//! that a header's length depends on names and ranks only: a writer can leave room for it, write
//! the payloads, and come back with their checksums.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use core::ops::Range;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Deserializer, Serialize};

use super::encoding::Encoding;
use super::layout::{ALIGNMENT, HEADER_LIMIT, Prelude, header_len};
use super::section::Section;
use crate::record::error::RecordError;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<HEADER_LIMIT>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<HEADER_LIMIT>();

/// All that a record says about its sections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header<'a> {
    #[serde(borrow, deserialize_with = "grown")]
    pub(crate) metadata: Vec<MetadataEntry<'a>>,
    #[serde(borrow, deserialize_with = "grown")]
    pub(crate) tensors: Vec<TensorEntry<'a>>,
    #[serde(borrow, deserialize_with = "grown")]
    pub(crate) states: Vec<StateEntry<'a>>,
}

/// A pair of the user's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetadataEntry<'a> {
    #[serde(borrow)]
    pub(crate) key: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) value: Cow<'a, str>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TensorEntry<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(deserialize_with = "grown")]
    pub(crate) shape: Vec<u64>,
    pub(crate) encoding: Encoding,
    /// Values, scales, zero points; those that a tensor does not have are empty.
    pub(crate) sections: [Section; 3],
}

/// A module's own bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateEntry<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) section: Section,
}

impl Header<'_> {
    /// The bytes that the lists take before they have entries.
    pub(crate) const EMPTY_LEN: usize = 24;
}

impl MetadataEntry<'_> {
    /// The bytes that the pair takes in a header.
    pub(crate) fn encoded_len(&self) -> usize {
        16 + self.key.len() + self.value.len()
    }
}

impl TensorEntry<'_> {
    /// The bytes that the entry takes in a header.
    pub(crate) fn encoded_len(&self) -> usize {
        16 + self.name.len() + 8 * self.shape.len() + 13 + 3 * Section::ENCODED_LEN
    }
}

impl StateEntry<'_> {
    /// The bytes that the entry takes in a header.
    pub(crate) fn encoded_len(&self) -> usize {
        16 + self.name.len() + self.kind.len() + Section::ENCODED_LEN
    }
}

/// Gives every section its place; returns where the first one starts and the last one ends.
pub(crate) fn lay_out(header: &mut Header<'_>) -> Result<Range<u64>, RecordError> {
    // The length does not depend on the offsets, which are still zero.
    let encoded = header.encode()?;
    header_len(encoded.len() as u64)?;
    let start = Prelude::new(&encoded, 0).sections_start();
    let mut at = start;
    for section in header.sections_mut() {
        section.offset = at;
        // A length that overflows is refused by `validate`.
        at = section.padded_end().unwrap_or(u64::MAX - ALIGNMENT + 1);
    }
    Ok(start..at)
}

/// The pairs in the order of their keys.
pub(crate) fn metadata_entries(pairs: BTreeMap<String, String>) -> Vec<MetadataEntry<'static>> {
    let entry =
        |(key, value): (String, String)| MetadataEntry { key: key.into(), value: value.into() };
    pairs.into_iter().map(entry).collect()
}

impl<'a> Header<'a> {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, RecordError> {
        bincode::serde::encode_to_vec(self, CONFIG)
            .map_err(|error| RecordError::Header { source: Box::new(error) })
    }

    /// Reads a header that takes all of `bytes`.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (header, read) = bincode::serde::borrow_decode_from_slice(bytes, CONFIG)
            .map_err(|error| RecordError::Header { source: Box::new(error) })?;
        if read < bytes.len() {
            return Err(RecordError::HeaderLen { said: bytes.len(), read });
        }
        Ok(header)
    }

    /// All sections, in the order of the file, to be laid out.
    pub(crate) fn sections_mut(&mut self) -> impl Iterator<Item = &mut Section> {
        let tensors = self.tensors.iter_mut().flat_map(|tensor| &mut tensor.sections);
        tensors.chain(self.states.iter_mut().map(|state| &mut state.section))
    }
}

/// Reads a list without believing its length: room is made as elements arrive.
///
/// serde's own lists reserve up to a megabyte on the word of the length.
pub(crate) fn grown<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct Visitor<T>(core::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = seq.next_element()? {
                list.push(element);
            }
            Ok(list)
        }
    }
    from.deserialize_seq(Visitor(core::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::QuantizationScheme;

    fn entry(scheme: Option<QuantizationScheme>) -> TensorEntry<'static> {
        let section = Section { offset: 64, len: 7, crc32: 0x0403_0201 };
        TensorEntry {
            name: "w".into(),
            shape: vec![2, 3],
            encoding: Encoding::of(scheme),
            sections: [section, Section::default(), Section::default()],
        }
    }

    #[test]
    fn header_round_trip() {
        let header = Header {
            metadata: vec![MetadataEntry { key: "k".into(), value: "v".into() }],
            tensors: vec![entry(None), entry("per-block-affine-int3:len=7".parse().ok())],
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

    /// The bytes that `docs/record-format.md` promises.
    #[test]
    fn a_tensor_is_encoded_as_documented() {
        let scheme = "per-channel-affine-int4:axis=-1".parse().unwrap();
        let header = Header { tensors: vec![entry(Some(scheme))], ..Header::default() };
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
