//! The header: what bincode writes and reads, before its content has been checked.
//!
//! Everything is a number, a string or a list, so that the bytes follow from bincode's fixed-width
//! little-endian rules alone and not from the order of some enum's variants. Widths are fixed so
//! that a header's length depends on names and ranks only: a writer can leave room for it, write
//! the payloads, and come back with their checksums.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Deserializer, Serialize};

use super::layout::{ALIGNMENT, HEADER_LIMIT};
use super::{Part, RecordError};
use crate::scheme::{
    Axis, Block, Granularity, Mapping, QuantizationScheme, QuantizationType, ScaleType,
};

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

/// The order of [`TensorEntry::sections`].
pub(crate) const TENSOR_PARTS: [Part; 3] = [Part::Values, Part::Scales, Part::ZeroPoints];

/// A module's own bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateEntry<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) section: Section,
}

/// A run of bytes after the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc32: u32,
}

/// How a tensor's values are stored: a scheme in numbers, and all zeros for floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Encoding {
    /// 0: float32; 1: quantized.
    kind: u8,
    /// 2 to 8.
    bits: u8,
    /// 0: symmetric; 1: affine.
    mapping: u8,
    /// 0: per tensor; 1: per channel; 2: per block.
    granularity: u8,
    /// 0: float32; 1: float16, for blocks only.
    scale_type: u8,
    /// The axis of channels as the scheme has it; negative ones count from the end.
    axis: i32,
    /// The length of blocks, at least 1.
    block: u32,
}

/// A field of an [`Encoding`] with a number that means nothing there.
pub(crate) struct BadField {
    pub(crate) field: &'static str,
    pub(crate) value: i64,
}

impl Encoding {
    /// The numbers of a scheme, or of float32.
    pub(crate) fn of(scheme: Option<QuantizationScheme>) -> Self {
        let Some(scheme) = scheme else { return Self::default() };
        let mut encoding = Self {
            kind: 1,
            bits: scheme.quantization_type().bits() as u8,
            mapping: matches!(scheme.mapping(), Mapping::Affine).into(),
            scale_type: matches!(scheme.scale_type(), ScaleType::F16).into(),
            ..Self::default()
        };
        match scheme.granularity() {
            Granularity::PerTensor => {}
            Granularity::PerChannel(axis) => {
                encoding.granularity = 1;
                encoding.axis = axis.index();
            }
            Granularity::PerBlock(block) => {
                encoding.granularity = 2;
                encoding.block = block.len() as u32;
            }
        }
        encoding
    }

    /// The scheme, or `None` for float32.
    pub(crate) fn scheme(self) -> Result<Option<QuantizationScheme>, BadField> {
        let scheme = match self.kind {
            0 => None,
            1 => Some(QuantizationScheme::new(
                self.quantization_type()?,
                self.mapping()?,
                self.granularity()?,
            )),
            _ => return Err(bad("kind", self.kind)),
        };
        match self.first_difference(Self::of(scheme)) {
            // A field that the others leave no meaning is zero: there is one way to write a scheme.
            Some(field) => Err(field),
            None => Ok(scheme),
        }
    }

    fn quantization_type(self) -> Result<QuantizationType, BadField> {
        QuantizationType::from_bits(self.bits.into()).ok_or(bad("bits", self.bits))
    }

    fn mapping(self) -> Result<Mapping, BadField> {
        match self.mapping {
            0 => Ok(Mapping::Symmetric),
            1 => Ok(Mapping::Affine),
            other => Err(bad("mapping", other)),
        }
    }

    fn granularity(self) -> Result<Granularity, BadField> {
        match self.granularity {
            0 => Ok(Granularity::PerTensor),
            1 => Ok(Granularity::PerChannel(Axis::new(self.axis))),
            2 => self.blocks().map(Granularity::PerBlock),
            other => Err(bad("granularity", other)),
        }
    }

    fn blocks(self) -> Result<Block, BadField> {
        let block = Block::new(self.block).ok_or(bad("block length", self.block))?;
        match self.scale_type {
            0 => Ok(block),
            1 => Ok(block.with_f16_scales()),
            other => Err(bad("scale type", other)),
        }
    }

    fn first_difference(self, other: Self) -> Option<BadField> {
        let differs: [(&'static str, i64, i64); 6] = [
            ("bits", self.bits.into(), other.bits.into()),
            ("mapping", self.mapping.into(), other.mapping.into()),
            ("granularity", self.granularity.into(), other.granularity.into()),
            ("scale type", self.scale_type.into(), other.scale_type.into()),
            ("axis", self.axis.into(), other.axis.into()),
            ("block length", self.block.into(), other.block.into()),
        ];
        let (field, value, _) = differs.into_iter().find(|(_, own, other)| own != other)?;
        Some(BadField { field, value })
    }
}

fn bad(field: &'static str, value: impl Into<i64>) -> BadField {
    BadField { field, value: value.into() }
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

impl Section {
    /// The bytes that a section takes in a header.
    const ENCODED_LEN: usize = 20;

    /// Where the padding after it ends, if that can be counted.
    pub(super) fn padded_end(self) -> Option<u64> {
        self.offset.checked_add(self.len)?.checked_next_multiple_of(ALIGNMENT)
    }
}

/// The pairs in the order of their keys.
pub(super) fn metadata_entries(pairs: BTreeMap<String, String>) -> Vec<MetadataEntry<'static>> {
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
pub(super) fn grown<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
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
    fn every_scheme_survives_its_numbers() {
        for name in [
            "per-tensor-symmetric-int8",
            "per-tensor-affine-int7",
            "per-channel-symmetric-int6:axis=3",
            "per-channel-affine-int5:axis=-2",
            "per-block-symmetric-int4:len=1",
            "per-block-affine-int3:len=2147483647",
            "per-block-affine-int2:len=64:scale=f16",
        ] {
            let scheme: QuantizationScheme = name.parse().unwrap();
            assert_eq!(Encoding::of(Some(scheme)).scheme().ok(), Some(Some(scheme)), "{name}");
        }
        assert!(matches!(Encoding::default().scheme(), Ok(None)));
    }

    #[test]
    fn fields_without_meaning_are_refused() {
        let int8 = Encoding { kind: 1, bits: 8, ..Encoding::default() };
        let block = Encoding { granularity: 2, block: 32, ..int8 };
        for (encoding, field) in [
            (Encoding { kind: 2, ..int8 }, "kind"),
            (Encoding { bits: 1, ..int8 }, "bits"),
            (Encoding { bits: 9, ..int8 }, "bits"),
            (Encoding { kind: 0, ..int8 }, "bits"),
            (Encoding { mapping: 2, ..int8 }, "mapping"),
            (Encoding { granularity: 3, ..int8 }, "granularity"),
            (Encoding { scale_type: 1, ..int8 }, "scale type"),
            (Encoding { scale_type: 2, ..block }, "scale type"),
            (Encoding { axis: 1, ..int8 }, "axis"),
            (Encoding { axis: 1, ..block }, "axis"),
            (Encoding { block: 1, ..int8 }, "block length"),
            (Encoding { block: 0, ..block }, "block length"),
        ] {
            assert_eq!(encoding.scheme().err().map(|bad| bad.field), Some(field), "{encoding:?}");
        }
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        for counts in [vec![u64::MAX], vec![0, u64::MAX], vec![0, 0, u64::MAX], vec![0, 0, 0, 0]] {
            let bytes: Vec<u8> = counts.into_iter().flat_map(u64::to_le_bytes).collect();
            assert!(Header::decode(&bytes).is_err());
        }
    }
}
