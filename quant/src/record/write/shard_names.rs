//! The file names of shards: drawn for each save, and recognized when the record is replaced.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::atomic::random;
use crate::record::format::error::ShardIndexError;
use crate::record::format::layout::{PRELUDE_LEN, Prelude};
use crate::record::format::shard_index::{self, LIMIT, ShardFile, ShardIndex};

/// The names of the shards of one save, which the shards of other saves do not have.
pub(super) struct ShardNames {
    /// `<name of the index>-<random number of this save>`
    prefix: String,
    next: usize,
}

impl ShardNames {
    pub(super) fn new(index: &Path) -> Self {
        Self { prefix: format!("{}-{:016x}", stem(index), random()), next: 1 }
    }

    /// Checks that an index of this many shards is not too long.
    pub(super) fn check_room(&self, shards: usize) -> Result<(), ShardIndexError> {
        // Two u64, a u32, and the name after the prefix.
        const REST: usize = 20 + "-00000000000000000000.part".len();
        let len = shards.saturating_mul(self.prefix.len() + REST);
        if len <= LIMIT { Ok(()) } else { Err(ShardIndexError::TooLong { limit: LIMIT }) }
    }

    pub(super) fn next(&mut self) -> String {
        let name = format!("{}-{:05}.part", self.prefix, self.next);
        self.next += 1;
        name
    }
}

/// The name of the index, shortened so that the names of its shards are not too long.
fn stem(index: &Path) -> &str {
    let name = index.file_name().and_then(OsStr::to_str).unwrap_or("record");
    let end = (0..=name.len().min(200)).rev().find(|&end| name.is_char_boundary(end));
    &name[..end.unwrap_or(0)]
}

/// Whether a save to `index` may have given a shard this name.
fn is_own(index: &Path, name: &str) -> bool {
    let rest = name.strip_prefix(stem(index)).and_then(|rest| rest.strip_prefix('-'));
    let numbers = rest.and_then(|rest| rest.strip_suffix(".part")?.split_once('-'));
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    numbers.is_some_and(|(save, shard)| {
        save.len() == 16
            && save.bytes().all(hex)
            && shard.len() >= 5
            && shard.bytes().all(|c| c.is_ascii_digit())
    })
}

/// The shards of the index at `path`, to be removed once the index has been replaced.
///
/// Only shards that a save to this path has written: the index may be a copy, or come from an
/// untrusted source. If the file is not a valid index, there are none.
pub(crate) fn own_shards(path: &Path) -> Vec<PathBuf> {
    let Some(index) = index_at(path) else { return Vec::new() };
    let directory = path.parent().unwrap_or(Path::new(""));
    let own = index.shards.into_iter().filter(|shard| is_own(path, &shard.name));
    let files = own.map(|shard| (directory.join(&shard.name), shard));
    files.filter(|(path, shard)| is_shard(path, shard)).map(|(path, _)| path).collect()
}

/// The index at `path`, if there is a valid one.
fn index_at(path: &Path) -> Option<ShardIndex> {
    let bytes = shard_index::read(File::open(path).ok()?).ok()??;
    ShardIndex::decode(&bytes).ok()
}

/// Whether the file at `path` has the length and header checksum of the index.
fn is_shard(path: &Path, shard: &ShardFile) -> bool {
    let read = || {
        // Checked before opening: opening a FIFO blocks until it has a writer.
        fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let (mut file, mut bytes) = (File::open(path).ok()?, [0; PRELUDE_LEN]);
        file.read_exact(&mut bytes).ok()?;
        let (prelude, len) = (Prelude::decode(&bytes).ok()?, file.metadata().ok()?.len());
        Some(len == shard.len && prelude.checksum == shard.checksum)
    };
    read().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_shards_are_recognized() {
        let path = Path::new("directory/model.quant");
        let (mut names, mut later) = (ShardNames::new(path), ShardNames::new(path));
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
    fn names_of_shards_fit_the_file_system() {
        let long = PathBuf::from("ü".repeat(127));
        let name = ShardNames::new(&long).next();
        assert!(name.len() <= 255 && is_own(&long, &name), "{name}");
    }
}
