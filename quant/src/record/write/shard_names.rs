//! The names of parts: given by a save, and known again when it is replaced.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::record::error::IndexError;
use crate::record::format::layout::{PRELUDE_LEN, Prelude};
use crate::record::format::shard_index::{self, Index, LIMIT, PartFile};

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
    let end = (0..=name.len().min(200)).rev().find(|&end| name.is_char_boundary(end));
    &name[..end.unwrap_or(0)]
}

/// Whether a save to `index` may have given a part this name.
fn is_own(index: &Path, name: &str) -> bool {
    let rest = name.strip_prefix(stem(index)).and_then(|rest| rest.strip_prefix('-'));
    let numbers = rest.and_then(|rest| rest.strip_suffix(".part")?.split_once('-'));
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    numbers.is_some_and(|(save, part)| {
        save.len() == 16
            && save.bytes().all(hex)
            && part.len() >= 5
            && part.bytes().all(|c| c.is_ascii_digit())
    })
}

/// The parts of the index at `path`, to be removed once another file has its place.
///
/// Only files that a save to this very path has made: the index may come from a stranger, or be
/// a copy. What is no index, or damaged, has none.
pub(super) fn own_parts(path: &Path) -> Vec<PathBuf> {
    let Some(index) = index_at(path) else { return Vec::new() };
    let directory = path.parent().unwrap_or(Path::new(""));
    let own = index.parts.into_iter().filter(|part| is_own(path, &part.name));
    let files = own.map(|part| (directory.join(&part.name), part));
    files.filter(|(path, part)| is_part(path, part)).map(|(path, _)| path).collect()
}

/// The index that the file at `path` is, if it is one.
fn index_at(path: &Path) -> Option<Index> {
    let bytes = shard_index::read(File::open(path).ok()?).ok()??;
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
