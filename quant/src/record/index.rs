//! The index of a record in parts: which files, in which order.
//!
//! ```text
//!   0  magic      89 'QNI' 0D0A 1A0A   8 bytes
//!   8  version    1                    u32
//!  12  checksum   of all but itself    u32    CRC-32 of bytes 0..12 and 16..
//!  16  parts      name, length and header checksum of each: bincode, as in a record's header
//! ```

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Serialize};

use super::header::grown;
use super::layout::{PRELUDE_LEN, Prelude};
use super::{IndexError, RecordError};

/// The first bytes of an index: those of a record, but for one letter.
pub(super) const MAGIC: [u8; 8] = *b"\x89QNI\r\n\x1A\n";

/// The version this library writes, and the newest it reads.
const VERSION: u32 = 1;

/// Where the list of parts starts.
const PARTS: usize = 16;

/// The longest index that is written or read: some ten thousand parts.
pub(super) const LIMIT: usize = 1 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<LIMIT>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT>();

/// The parts of a record, in order: at least one, each name a plain one and there once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    #[serde(deserialize_with = "grown")]
    pub(super) parts: Vec<PartFile>,
}

/// A file that is a part of a record, and a record itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PartFile {
    /// The file's name, in the directory of the index.
    pub(super) name: String,
    pub(super) len: u64,
    /// The checksum in the part's prelude; it covers those of all sections.
    pub(super) checksum: u32,
}

impl Index {
    pub(super) fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut bytes = MAGIC.to_vec();
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
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > LIMIT {
            return Err(IndexError::TooLong { limit: LIMIT }.into());
        }
        let Some((start, list)) = bytes.split_at_checked(PARTS) else {
            let (at, expected) = (bytes.len() as u64, PARTS as u64);
            return Err(RecordError::Truncated { at, expected });
        };
        if start[..MAGIC.len()] != MAGIC {
            let found = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| start[i]);
            return Err(RecordError::BadMagic { found });
        }
        let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| start[at + i]));
        match number(8) {
            VERSION => {}
            found => return Err(RecordError::UnknownVersion { found, newest: VERSION }),
        }
        let (stored, computed) = (number(12), checksum(bytes));
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

/// Whether a name can only be that of a file beside the index, on any system.
fn is_plain(name: &str) -> bool {
    let only_dots = name.chars().all(|c| c == '.');
    let special = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    !only_dots && name.len() <= 255 && !name.contains(special)
}

/// Reads what may be an index, up to one byte beyond the limit.
pub(super) fn read(reader: impl Read) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::new();
    reader.take(LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names of one save's parts, which no other save's parts have.
pub(super) struct Names {
    /// `<name of the index>-<a number drawn for this save>`
    prefix: String,
    next: usize,
}

impl Names {
    pub(super) fn new(index: &Path) -> Self {
        // Keyed by the system's random numbers.
        let number = RandomState::new().hash_one(std::process::id());
        Self { prefix: format!("{}-{number:016x}", stem(index)), next: 1 }
    }

    /// Checks that an index has room for this many names.
    pub(super) fn check_room(&self, parts: usize) -> Result<(), IndexError> {
        // Two u64 and a u32, and what follows the prefix.
        const MORE: usize = 20 + "-00000000000000000000.part".len();
        let len = parts.saturating_mul(self.prefix.len() + MORE);
        if len <= LIMIT { Ok(()) } else { Err(IndexError::TooLong { limit: LIMIT }) }
    }

    pub(super) fn next(&mut self) -> String {
        let name = format!("{}-{:05}.part", self.prefix, self.next);
        self.next += 1;
        name
    }
}

/// The name of the index, as far as the names of its parts have room for it.
fn stem(index: &Path) -> &str {
    let name = index.file_name().and_then(OsStr::to_str).unwrap_or("record");
    &name[..name.floor_char_boundary(200)]
}

/// Whether a save to `index` may have given a part this name.
fn is_own(index: &Path, name: &str) -> bool {
    let numbers = || {
        let (id, number) = name
            .strip_prefix(stem(index))?
            .strip_prefix('-')?
            .strip_suffix(".part")?
            .split_once('-')?;
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let well_formed = id.len() == 16
            && id.bytes().all(hex)
            && number.len() >= 5
            && number.bytes().all(|c| c.is_ascii_digit());
        well_formed.then_some(())
    };
    numbers().is_some()
}

/// The parts of the index at `path`, to be removed once another file has its place.
///
/// Only files that a save to this very path has made: the index may come from a stranger, or be
/// a copy. What is no index, or damaged, has none.
pub(super) fn own_parts(path: &Path) -> Vec<PathBuf> {
    let Some(index) = File::open(path).ok().and_then(index_in) else { return Vec::new() };
    let directory = path.parent().unwrap_or(Path::new(""));
    let own = index.parts.into_iter().filter(|part| is_own(path, &part.name));
    let files = own.map(|part| (directory.join(&part.name), part));
    files.filter(|(path, part)| is_part(path, part)).map(|(path, _)| path).collect()
}

/// The index that a file is, if it is one.
fn index_in(mut file: File) -> Option<Index> {
    let mut bytes = MAGIC.to_vec();
    file.read_exact(&mut bytes).ok()?;
    if bytes != MAGIC {
        return None;
    }
    bytes.extend(read(file).ok()?);
    Index::decode(&bytes).ok()
}

/// Whether the file at `path` starts and ends as the index says.
fn is_part(path: &Path, part: &PartFile) -> bool {
    let read = || {
        // A pipe without a writer would keep us waiting.
        fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let (mut file, mut bytes) = (File::open(path).ok()?, [0; PRELUDE_LEN]);
        file.read_exact(&mut bytes).ok()?;
        let (prelude, len) = (Prelude::decode(&bytes).ok()?, file.metadata().ok()?.len());
        Some(len == part.len && prelude.checksum == part.checksum)
    };
    read().unwrap_or(false)
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

    #[test]
    fn names_of_parts_are_known_again_and_no_others() {
        let path = Path::new("directory/model.quant");
        let (mut names, mut later) = (Names::new(path), Names::new(path));
        let name = names.next();
        assert!(is_own(path, &name), "{name}");
        assert_ne!(name, names.next());
        assert_ne!(name, later.next());
        for other in
            ["model.quant", "model.quant-1.part", "other.quant-0123456789abcdef-00001.part"]
        {
            assert!(!is_own(path, other), "{other}");
        }
        assert!(is_own(path, "model.quant-0123456789abcdef-00001.part"));
        assert!(!is_own(path, "model.quant-0123456789abcdeF-00001.part"));
        assert!(!is_own(path, "model.quant-0123456789abcdef-0001.part"));
    }

    #[test]
    fn names_of_parts_are_no_longer_than_names_can_be() {
        let long = PathBuf::from("ü".repeat(127));
        let name = Names::new(&long).next();
        assert!(name.len() <= 255 && is_own(&long, &name), "{name}");
    }
}
