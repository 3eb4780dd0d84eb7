//! Files and directories of the tests' own.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A file with these bytes, in a directory of its own, which is removed with the first of the two.
///
/// # Panics
/// If it cannot be written.
pub fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let path = directory.path().join("model.quant");
    fs::write(&path, bytes).expect("there is room for a file");
    (directory, path)
}

/// The names of what lies in a directory, in order.
///
/// # Panics
/// If it cannot be listed, or a name is not Unicode.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> =
        entries.map(|entry| name(entry).into_string().expect("a name in Unicode")).collect();
    names.sort();
    names
}
