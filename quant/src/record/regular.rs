//! Telling regular files from directories, devices, FIFOs and sockets.

use std::fs::Metadata;
use std::io;

/// Rejects everything but regular files.
pub(super) fn check_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let (kind, message) = match metadata.is_dir() {
        true => (io::ErrorKind::IsADirectory, "is a directory"),
        false => (io::ErrorKind::InvalidInput, "not a regular file"),
    };
    Err(io::Error::new(kind, message))
}
