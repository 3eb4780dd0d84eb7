//! The index of a record in parts: which files, in which order.
//!
//! ```text
//!   0  magic      89 'QNI' 0D0A 1A0A   8 bytes
//!   8  version    1                    u32
//!  12  checksum   of all but itself    u32    CRC-32 of bytes 0..12 and 16..
//!  16  parts      name, length and header checksum of each: bincode, as in a record's header
//! ```

use std::collections::HashSet;
use std::io::{self, Read};

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Serialize};

use super::header::grown;
use super::layout::{INDEX_MAGIC, array};
use crate::record::error::{IndexError, RecordError};

/// The version this library writes, and the newest it reads.
const VERSION: u32 = 1;

/// Where the list of parts starts.
const PARTS: usize = 16;

/// The longest index that is written or read: some ten thousand parts.
pub(crate) const LIMIT: usize = 1 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<LIMIT>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT>();

/// The parts of a record, in order: at least one, each name a plain one and there once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    #[serde(deserialize_with = "grown")]
    pub(crate) parts: Vec<PartFile>,
}

/// A file that is a part of a record, and a record itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartFile {
    /// The file's name, in the directory of the index.
    pub(crate) name: String,
    pub(crate) len: u64,
    /// The checksum in the part's prelude; it covers those of all sections.
    pub(crate) checksum: u32,
}

impl Index {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut bytes = INDEX_MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        let list = bincode::serde::encode_to_vec(self, CONFIG);
        bytes.extend(list.map_err(|error| IndexError::Encoding { source: Box::new(error) })?);
        if bytes.len() > LIMIT {
            return Err(IndexError::TooLong { limit: LIMIT }.into());
        }
        let checksum = checksum(&bytes);
        bytes[12..PARTS].copy_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads an index that is all of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > LIMIT {
            return Err(IndexError::TooLong { limit: LIMIT }.into());
        }
        let Some((start, list)) = bytes.split_at_checked(PARTS) else {
            let (at, expected) = (bytes.len() as u64, PARTS as u64);
            return Err(RecordError::Truncated { at, expected });
        };
        let found = array(&start[..8]);
        if found != INDEX_MAGIC {
            return Err(RecordError::BadMagic { found });
        }
        let found = u32::from_le_bytes(array(&start[8..12]));
        if found != VERSION {
            return Err(RecordError::UnknownVersion { found, newest: VERSION });
        }
        let (stored, computed) = (u32::from_le_bytes(array(&start[12..])), checksum(bytes));
        if stored != computed {
            return Err(IndexError::Checksum { stored, computed }.into());
        }
        let (index, read): (Self, usize) = bincode::serde::decode_from_slice(list, CONFIG)
            .map_err(|error| IndexError::Encoding { source: Box::new(error) })?;
        if read < list.len() {
            let expected = (PARTS + read) as u64;
            return Err(RecordError::TrailingBytes { expected });
        }
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), IndexError> {
        if self.parts.is_empty() {
            return Err(IndexError::NoParts);
        }
        let mut seen = HashSet::new();
        for PartFile { name, .. } in &self.parts {
            if !is_plain(name) {
                return Err(IndexError::PartName { name: name.clone() });
            }
            // Some file systems do not tell upper from lower case.
            if !seen.insert(name.to_lowercase()) {
                return Err(IndexError::DuplicatePart { name: name.clone() });
            }
        }
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[PARTS..]);
    crc.finalize()
}

/// The bytes of an index, up to one beyond the limit, if the input starts like one.
pub(crate) fn read(mut reader: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.by_ref().take(INDEX_MAGIC.len() as u64).read_to_end(&mut bytes)?;
    if bytes != INDEX_MAGIC {
        return Ok(None);
    }
    reader.take((LIMIT + 1 - INDEX_MAGIC.len()) as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Whether a name can only be that of a file beside the index, on any system.
fn is_plain(name: &str) -> bool {
    let only_dots = name.chars().all(|c| c == '.');
    let special = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    !only_dots && name.len() <= 255 && !name.contains(special)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> PartFile {
        PartFile { name: name.into(), len: 64, checksum: 7 }
    }

    fn round_trip(parts: Vec<PartFile>) -> Result<Index, RecordError> {
        Index::decode(&Index { parts }.encode()?)
    }

    #[test]
    fn index_round_trip() {
        let index = Index { parts: vec![part("a"), part("größe.part")] };
        assert_eq!(round_trip(index.parts.clone()).unwrap(), index);
    }

    /// The bytes that `docs/record-format.md` promises.
    #[test]
    fn an_index_is_encoded_as_documented() {
        let mut expected = b"\x89QNI\r\n\x1A\n\x01\0\0\0????".to_vec();
        expected.extend(1u64.to_le_bytes());
        expected.extend(1u64.to_le_bytes());
        expected.extend(b"p");
        expected.extend(64u64.to_le_bytes());
        expected.extend(7u32.to_le_bytes());
        let mut bytes = Index { parts: vec![part("p")] }.encode().unwrap();
        bytes[12..16].copy_from_slice(b"????");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn parts_lie_beside_their_index() {
        for name in ["", ".", "..", "../x", "/x", "a/b", "a\\b", "C:x", "x\0", "x\n", "..."] {
            let error = round_trip(vec![part(name)]).unwrap_err();
            assert!(matches!(error, RecordError::Index(IndexError::PartName { .. })), "{name:?}");
        }
        let long = "n".repeat(256);
        assert!(round_trip(vec![part(&long)]).is_err());
        for twice in [["a", "a"], ["a", "A"]] {
            let error = round_trip(twice.map(part).into()).unwrap_err();
            assert!(matches!(error, RecordError::Index(IndexError::DuplicatePart { .. })));
        }
        let error = round_trip(vec![]).unwrap_err();
        assert!(matches!(error, RecordError::Index(IndexError::NoParts)));
    }
}
