//! A file that is read at any place, whatever others read from it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::source::Source;
use crate::record::error::RecordError;
use crate::record::format::section::Section;

/// A file that is open for reading.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

impl Open {
    pub(crate) fn new(path: &Path) -> Result<Self, RecordError> {
        // Asked before it is opened: a pipe without a writer would keep us waiting.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file").into());
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, path: path.into(), len })
    }

    pub(crate) fn at(&self, at: u64) -> At<'_> {
        At::new(&self.file, at)
    }

    /// Reads from the start of a section.
    pub(crate) fn read<T>(
        &self,
        section: Section,
        read: impl FnOnce(Source<'_>) -> Result<T, RecordError>,
    ) -> Result<T, RecordError> {
        let mut reader = self.at(section.offset);
        read(Source::within(&mut reader, section.offset, self.len))
            .map_err(|error| error.in_file(&self.path))
    }
}

/// Reads a file from a place on, whatever others read from it.
pub struct At<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> At<'a> {
    /// Reads `file` from the byte `at` on.
    pub fn new(file: &'a File, at: u64) -> Self {
        Self { file, at }
    }
}

impl Read for At<'_> {
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

/// No other system is known to read at a place without moving the file's own.
#[cfg(not(any(unix, windows)))]
fn read_at(_file: &File, _buffer: &mut [u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
