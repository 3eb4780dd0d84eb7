//! Files that several threads read at offsets of their own.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::record::regular::check_regular;

/// A regular file that is open for reading.
#[derive(Debug)]
pub struct OpenFile {
    /// The file, whose position nothing here moves.
    pub file: File,
    /// The path that it was opened by.
    pub path: PathBuf,
    /// The length in bytes when the file was opened.
    pub len: u64,
}

impl OpenFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// The system's, or the path is that of a directory, a device, a FIFO or a socket.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Checked before opening: opening a FIFO blocks until it has a writer.
        check_regular(&fs::metadata(path)?)?;
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, path: path.into(), len })
    }

    /// A reader that starts at this offset.
    pub fn at(&self, at: u64) -> FileReader<'_> {
        FileReader { file: &self.file, at }
    }
}

/// Reads a file from an offset on. It does not move the position of the file, so that several can
/// read from one file at the same time.
pub struct FileReader<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = read_at(self.file, buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

/// The standard library has no positioned reads for other systems.
#[cfg(not(any(unix, windows)))]
fn read_at(_file: &File, _buffer: &mut [u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
