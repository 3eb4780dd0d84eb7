//! The index of a sharded record: the files of its shards, in order.
//!
//! ```text
//!   0  magic      89 'QNI' 0D0A 1A0A   8 bytes
//!   8  version    1                    u32
//!  12  checksum   of all but itself    u32    CRC-32 of bytes 0..12 and 16..
//!  16  shards     name, length and header checksum of each: bincode, as in a record's header
//! ```

use std::collections::HashSet;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::codec::{config, list};
use super::error::{RecordFormatError, ShardIndexError};
use super::layout::{SHARD_INDEX_MAGIC as MAGIC, array, bad_magic};

/// The version that this library writes, and the newest that it reads.
const VERSION: u32 = 1;

/// The offset of the list of shards.
const LIST: usize = 16;

/// The limit of the length of an index for reading and writing: about ten thousand shards.
pub(crate) const LIMIT: usize = 1 << 20;

/// The shards of a record in order: at least one, each with a distinct plain file name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardIndex {
    #[serde(deserialize_with = "list")]
    pub(crate) shards: Vec<ShardFile>,
}

/// The file of a shard, which is a record itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardFile {
    /// The file name in the directory of the index.
    pub(crate) name: String,
    pub(crate) len: u64,
    /// The checksum in the prelude of the shard, which covers the checksums of all sections.
    pub(crate) checksum: u32,
}

impl ShardIndex {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, RecordFormatError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        let list = bincode::serde::encode_to_vec(self, config::<LIMIT>());
        bytes.extend(list.map_err(|error| ShardIndexError::Encoding { source: Box::new(error) })?);
        if bytes.len() > LIMIT {
            return Err(ShardIndexError::TooLong { limit: LIMIT }.into());
        }
        let checksum = checksum(&bytes);
        bytes[12..LIST].copy_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Decodes an index that extends to the end of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordFormatError> {
        if bytes.len() > LIMIT {
            return Err(ShardIndexError::TooLong { limit: LIMIT }.into());
        }
        let Some((start, list)) = bytes.split_at_checked(LIST) else {
            let (at, expected) = (bytes.len() as u64, LIST as u64);
            return Err(RecordFormatError::Truncated { at, expected });
        };
        let found = array(&start[..8]);
        if found != MAGIC {
            return Err(bad_magic(&found));
        }
        let found = u32::from_le_bytes(array(&start[8..12]));
        if found != VERSION {
            return Err(RecordFormatError::UnsupportedVersion { found, newest: VERSION });
        }
        let (stored, computed) = (u32::from_le_bytes(array(&start[12..])), checksum(bytes));
        if stored != computed {
            return Err(ShardIndexError::Checksum { stored, computed }.into());
        }
        let (index, read): (Self, usize) =
            bincode::serde::decode_from_slice(list, config::<LIMIT>())
                .map_err(|error| ShardIndexError::Encoding { source: Box::new(error) })?;
        if read < list.len() {
            let expected = (LIST + read) as u64;
            return Err(RecordFormatError::TrailingBytes { expected });
        }
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), ShardIndexError> {
        if self.shards.is_empty() {
            return Err(ShardIndexError::NoShards);
        }
        let mut seen = HashSet::new();
        for ShardFile { name, .. } in &self.shards {
            if !is_plain(name) {
                return Err(ShardIndexError::ShardName { name: name.clone() });
            }
            // Some file systems ignore case.
            if !seen.insert(name.to_lowercase()) {
                return Err(ShardIndexError::DuplicateShard { name: name.clone() });
            }
        }
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[LIST..]);
    crc.finalize()
}

/// Reads an index, up to one byte beyond the limit; `None` if the input does not start like one.
pub(crate) fn read(mut reader: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.by_ref().take(MAGIC.len() as u64).read_to_end(&mut bytes)?;
    if bytes != MAGIC {
        return Ok(None);
    }
    reader.take((LIMIT + 1 - MAGIC.len()) as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Whether, on every system, a name can only refer to a file in the directory of the index.
fn is_plain(name: &str) -> bool {
    let only_dots = name.chars().all(|c| c == '.');
    let special = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    !only_dots && name.len() <= 255 && !name.contains(special)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(name: &str) -> ShardFile {
        ShardFile { name: name.into(), len: 64, checksum: 7 }
    }

    fn round_trip(shards: Vec<ShardFile>) -> Result<ShardIndex, RecordFormatError> {
        ShardIndex::decode(&ShardIndex { shards }.encode()?)
    }

    #[test]
    fn index_round_trip() {
        let index = ShardIndex { shards: vec![shard("a"), shard("größe.part")] };
        assert_eq!(round_trip(index.shards.clone()).unwrap(), index);
    }

    /// Compares with the bytes in `docs/record-format.md`.
    #[test]
    fn an_index_is_encoded_as_documented() {
        let mut expected = b"\x89QNI\r\n\x1A\n\x01\0\0\0????".to_vec();
        expected.extend(1u64.to_le_bytes());
        expected.extend(1u64.to_le_bytes());
        expected.extend(b"p");
        expected.extend(64u64.to_le_bytes());
        expected.extend(7u32.to_le_bytes());
        let mut bytes = ShardIndex { shards: vec![shard("p")] }.encode().unwrap();
        bytes[12..16].copy_from_slice(b"????");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn rejects_names_that_are_not_plain_or_not_distinct() {
        for name in ["", ".", "..", "../x", "/x", "a/b", "a\\b", "C:x", "x\0", "x\n", "..."] {
            let error = round_trip(vec![shard(name)]).unwrap_err();
            assert!(
                matches!(error, RecordFormatError::ShardIndex(ShardIndexError::ShardName { .. })),
                "{name:?}"
            );
        }
        let long = "n".repeat(256);
        assert!(round_trip(vec![shard(&long)]).is_err());
        for twice in [["a", "a"], ["a", "A"]] {
            let error = round_trip(twice.map(shard).into()).unwrap_err();
            assert!(matches!(
                error,
                RecordFormatError::ShardIndex(ShardIndexError::DuplicateShard { .. })
            ));
        }
        let error = round_trip(vec![]).unwrap_err();
        assert!(matches!(error, RecordFormatError::ShardIndex(ShardIndexError::NoShards)));
    }
}
