//! The public writer of records, one tensor at a time.

use std::path::{Path, PathBuf};

use super::atomic::System;
use super::error::WriteError;
use super::manifest::Manifest;
use super::stream::Stream;
use crate::record::error::RecordError;
use crate::record::format::entry::RecordEntry;
use crate::tensor::Tensor;

/// Writes a record to a file one tensor at a time, so that only one needs to be in memory.
///
/// The content is declared first; then the tensors are written in the declared order. Until
/// [`finish`](Self::finish) returns, the path has its old content, or no file; dropping an
/// unfinished writer leaves nothing behind. The bytes equal those of
/// [`BincodeRecorder`](crate::BincodeRecorder).
///
/// ```
/// use quant::Tensor;
/// use quant::record::{Manifest, RecordEntry, RecordFile, RecordWriter};
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-writer-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("model.quant");
/// let entries = [RecordEntry::new("a", [2], None), RecordEntry::new("b", [], None)];
/// let mut writer = RecordWriter::create(&path, Manifest::new(entries))?;
/// writer.write("a", &Tensor::from_values(&[2], vec![1.0, 2.0])?)?;
/// writer.write("b", &Tensor::from_values(&[], vec![3.0])?)?;
/// writer.finish()?;
///
/// assert_eq!(*RecordFile::open(&path)?.read(1)?.values(), [3.0]);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a record that is not finished is removed"]
pub struct RecordWriter {
    stream: Stream<System>,
    path: PathBuf,
}

impl RecordWriter {
    /// Begins the record that `manifest` declares.
    ///
    /// # Errors
    /// [`RecordError::Format`] before anything is written: duplicate names, a shape and scheme that do
    /// not form a tensor, a header beyond the limit. [`RecordError::Io`].
    pub fn create(path: impl AsRef<Path>, manifest: Manifest) -> Result<Self, RecordError> {
        let path = path.as_ref();
        let stream =
            Stream::create(System, path, manifest).map_err(|error| in_file(error, path))?;
        Ok(Self { stream, path: path.into() })
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// [`RecordError::Manifest`] if name, shape or scheme are not the declared ones; nothing is written
    /// then, and the declared tensor can follow. [`RecordError::Io`]; nothing can be written after it.
    pub fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError> {
        self.stream.write(id, tensor.into()).map_err(|error| in_file(error, &self.path))
    }

    /// Begins the next tensor, whose elements [`part`](Self::part) writes.
    #[doc(hidden)]
    pub fn begin(&mut self, entry: &RecordEntry) -> Result<(), RecordError> {
        self.stream.begin(entry).map_err(|error| in_file(error, &self.path))
    }

    /// Writes the elements of the tensor that follow in row-major order: whole rows of codes.
    #[doc(hidden)]
    pub fn part(&mut self, part: &Tensor) -> Result<(), RecordError> {
        self.stream.part(part.into()).map_err(|error| in_file(error, &self.path))
    }

    /// Ends the tensor, of which all elements have been written.
    #[doc(hidden)]
    pub fn end(&mut self) -> Result<(), RecordError> {
        self.stream.end().map_err(|error| in_file(error, &self.path))
    }

    /// Begins the next state that the manifest declares without its bytes.
    #[doc(hidden)]
    pub fn begin_state(&mut self, id: &str, len: u64) -> Result<(), RecordError> {
        self.stream.begin_state(id, len).map_err(|error| in_file(error, &self.path))
    }

    /// Writes the next bytes of the state.
    #[doc(hidden)]
    pub fn state_part(&mut self, data: &[u8]) -> Result<(), RecordError> {
        self.stream.state_part(data).map_err(|error| in_file(error, &self.path))
    }

    /// Ends the state.
    #[doc(hidden)]
    pub fn end_state(&mut self) -> Result<(), RecordError> {
        self.stream.end_state().map_err(|error| in_file(error, &self.path))
    }

    /// Writes the next state that the manifest declares without its bytes, after the last tensor.
    ///
    /// # Errors
    /// [`RecordError::Manifest`] if a tensor is missing, or name or number of bytes are not the
    /// declared ones; nothing is written then. [`RecordError::Io`]; nothing can be written after it.
    pub fn write_state(&mut self, id: &str, data: &[u8]) -> Result<(), RecordError> {
        self.stream.write_state(id, data).map_err(|error| in_file(error, &self.path))
    }

    /// Writes states and header, brings the record to the disk and gives it its name.
    ///
    /// # Errors
    /// [`RecordError::Manifest`] if a declared tensor or state was not written. [`RecordError::Io`].
    pub fn finish(self) -> Result<(), RecordError> {
        let Self { stream, path } = self;
        stream.finish().map_err(|error| in_file(error, &path))
    }
}

fn in_file(error: WriteError, path: &Path) -> RecordError {
    RecordError::from(error).in_file(path)
}
