//! The header of a file: a length, and JSON with the position of each tensor.
//!
//! The crate `safetensors` needs all bytes of a file in memory; here they stay in the file. The
//! tests of the workspace compare both.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use quant::ParamId;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::dtype::Dtype;
use super::error::SafetensorsError;

/// The bytes before the JSON, which hold its length.
pub(super) const LEN_BYTES: u64 = 8;

/// The longest JSON that is read or written; the crate `safetensors` has the same limit.
pub(super) const LIMIT: u64 = 100_000_000;

/// The key for metadata, which no tensor can have as its name.
pub(crate) const METADATA: &str = "__metadata__";

/// The metadata of a file, and the positions of its tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Header {
    pub(crate) metadata: BTreeMap<String, String>,
    /// In the order of the header; the order of their bytes may differ.
    pub(crate) tensors: Vec<Slot>,
}

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// The position of its bytes, from the end of the header.
    pub(crate) bytes: Range<u64>,
}

impl Slot {
    /// Its type and shape, for messages.
    pub(crate) fn describe(&self) -> String {
        describe(self.dtype, &self.shape)
    }
}

pub(crate) fn describe(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype} {shape:?}")
}

/// The length of the JSON of a file of `file_len` bytes that starts with `prefix`.
pub(super) fn json_len(prefix: [u8; 8], file_len: u64) -> Result<u64, SafetensorsError> {
    let len = u64::from_le_bytes(prefix);
    if len > LIMIT {
        return Err(SafetensorsError::HeaderTooLong { len, limit: LIMIT });
    }
    let expected = LEN_BYTES + len;
    if file_len < expected {
        return Err(SafetensorsError::Truncated { len: file_len, expected });
    }
    Ok(len)
}

impl Header {
    /// Parses the JSON of a header. `data_len` is the number of bytes after it, if known.
    pub(super) fn decode(json: &[u8], data_len: Option<u64>) -> Result<Self, SafetensorsError> {
        let raw: RawHeader = serde_json::from_slice(json)
            .map_err(|error| SafetensorsError::Json { source: error.into() })?;
        let mut names = HashSet::new();
        if let Some((name, _)) = raw.tensors.iter().find(|(name, _)| !names.insert(name)) {
            return Err(SafetensorsError::DuplicateName { id: name.as_str().into() });
        }
        let tensors = raw.tensors.into_iter().map(|(name, raw)| raw.check(name));
        let mut tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        // They are in the memory of the raw ones, which took more.
        tensors.shrink_to_fit();
        let header = Self { metadata: raw.metadata, tensors };
        let mut at = 0;
        for position in header.by_offset() {
            let slot = &header.tensors[position];
            if slot.bytes.start != at {
                let (id, offset) = (slot.name.as_str().into(), slot.bytes.start);
                return Err(SafetensorsError::Offset { id, offset, expected: at });
            }
            at = slot.bytes.end;
        }
        match data_len {
            Some(found) if found != at => Err(SafetensorsError::FileLen { found, expected: at }),
            _ => Ok(header),
        }
    }

    /// The indices of the tensors in the order of their bytes.
    pub(crate) fn by_offset(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        // Tensors without elements share their offset with the next one.
        order.sort_by_key(|&slot| {
            let bytes = &self.tensors[slot].bytes;
            (bytes.start, bytes.end)
        });
        order
    }

    /// Gives the tensors, whose bytes start at 0, their places: end to end, those of wide elements
    /// first, so that every element is aligned to its size.
    pub(crate) fn place(&mut self) {
        let slots = &mut self.tensors;
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_by_key(|&slot| Reverse(slots[slot].dtype.bits()));
        let mut at = 0;
        for slot in order {
            let len = slots[slot].bytes.end;
            slots[slot].bytes = at..at + len;
            at += len;
        }
    }

    /// The length and the JSON, padded with spaces so that the data is aligned to 8 bytes.
    ///
    /// # Errors
    /// The JSON is longer than readers accept.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, SafetensorsError> {
        let mut bytes = vec![0; LEN_BYTES as usize];
        serde_json::to_writer(&mut bytes, self).expect("strings and numbers are JSON");
        bytes.resize(bytes.len().next_multiple_of(8), b' ');
        let len = bytes.len() as u64 - LEN_BYTES;
        if len > LIMIT {
            return Err(SafetensorsError::HeaderTooLong { len, limit: LIMIT });
        }
        bytes[..LEN_BYTES as usize].copy_from_slice(&len.to_le_bytes());
        Ok(bytes)
    }

    /// The number of bytes after the header.
    pub(crate) fn data_len(&self) -> u64 {
        self.tensors.iter().map(|slot| slot.bytes.end).max().unwrap_or(0)
    }
}

/// A header in the order of the file, with names that may repeat.
#[derive(Default)]
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, RawSlot)>,
}

/// As the crate `safetensors` does, other fields are ignored.
#[derive(Deserialize)]
struct RawSlot {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl RawSlot {
    fn check(self, name: String) -> Result<Slot, SafetensorsError> {
        let Self { dtype, shape, data_offsets: offsets } = self;
        let id = || ParamId::new(&*name);
        let Some(dtype) = Dtype::of(&dtype) else {
            return Err(SafetensorsError::UnknownDtype { id: id(), dtype });
        };
        let extents: Option<Vec<usize>> = shape.iter().map(|&n| n.try_into().ok()).collect();
        let counted = extents.and_then(|shape| Some((dtype.byte_count(&shape)?, shape)));
        let Some((expected, shape)) = counted else {
            return Err(SafetensorsError::Shape { id: id(), shape });
        };
        let [start, end] = offsets;
        if end.checked_sub(start) != Some(expected) {
            return Err(SafetensorsError::Size { id: id(), expected, offsets });
        }
        Ok(Slot { name, dtype, shape, bytes: start..end })
    }
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut raw = RawHeader::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key == METADATA {
                        // Some writers write `null`.
                        raw.metadata.extend(
                            map.next_value::<Option<BTreeMap<_, _>>>()?.unwrap_or_default(),
                        );
                    } else {
                        let slot = map.next_value()?;
                        raw.tensors.push((key, slot));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tensor<'a> {
            dtype: &'static str,
            shape: &'a [usize],
            data_offsets: [u64; 2],
        }
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, &self.metadata)?;
        }
        for Slot { name, dtype, shape, bytes } in &self.tensors {
            let data_offsets = [bytes.start, bytes.end];
            map.serialize_entry(name, &Tensor { dtype: dtype.name(), shape, data_offsets })?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(json: &str, data_len: u64) -> Result<Header, String> {
        Header::decode(json.as_bytes(), Some(data_len)).map_err(|error| error.to_string())
    }

    #[test]
    fn header_round_trip() {
        let slot = |name: &str, dtype, shape: &[usize], bytes| Slot {
            name: name.into(),
            dtype,
            shape: shape.into(),
            bytes,
        };
        let header = Header {
            metadata: [("format".to_owned(), "pt".to_owned())].into(),
            tensors: vec![
                slot("a", Dtype::BF16, &[], 24..26),
                slot("nothing", Dtype::F32, &[0, 3], 24..24),
                slot("b", Dtype::F32, &[2, 3], 0..24),
            ],
        };
        let bytes = header.encode().unwrap();
        assert!(bytes.len().is_multiple_of(8));
        let len = json_len(bytes[..8].try_into().unwrap(), bytes.len() as u64 + 26).unwrap();
        assert_eq!(len, bytes.len() as u64 - 8);
        assert_eq!(Header::decode(&bytes[8..], Some(header.data_len())).unwrap(), header);
    }

    #[test]
    fn rejects_headers_that_contradict_themselves() {
        for (json, said) in [
            ("{", "the header is not valid JSON"),
            (
                r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                "w: duplicate name",
            ),
            (r#"{"w":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, "w: unknown type `F33`"),
            (
                r#"{"w":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#,
                "w: shape [18446744073709551615, 2] has no size in whole bytes",
            ),
            (
                r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}}"#,
                "w: needs 8 bytes, but its offsets are 0 and 7",
            ),
            (
                r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
                "w: needs 8 bytes, but its offsets are 8 and 0",
            ),
            (
                r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                "w: starts at byte 4 after a tensor that ends at byte 0",
            ),
            (
                r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                "the tensors need 4 bytes, but 8 follow the header",
            ),
        ] {
            assert_eq!(decode(json, 8).unwrap_err(), said);
        }
    }

    #[test]
    fn rejects_lengths_beyond_the_limit_or_the_file() {
        let prefix = |len: u64| len.to_le_bytes();
        assert!(matches!(
            json_len(prefix(LIMIT + 1), u64::MAX),
            Err(SafetensorsError::HeaderTooLong { .. })
        ));
        assert!(matches!(json_len(prefix(10), 17), Err(SafetensorsError::Truncated { .. })));
        assert_eq!(json_len(prefix(10), 18).unwrap(), 10);
    }
}
