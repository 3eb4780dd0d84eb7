//! Records that users write one tensor at a time.

use alloc::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::atomic::System;
use super::manifest::Outline;
use super::stream::Stream;
use crate::record::error::RecordError;
use crate::record::format::entry::RecordEntry;
use crate::record::format::entry::State;
use crate::tensor::Tensor;

/// Writes a record to a file, one tensor at a time: no more than one need be in memory.
///
/// What is to be written is declared first, and then written in this order. The file has its old
/// content, or none, until [`finish`](Self::finish) returns; a writer that is dropped before
/// leaves nothing behind. The bytes are those that
/// [`BincodeRecorder`](crate::record::BincodeRecorder) writes.
///
/// ```
/// use quant::{RecordEntry, RecordFile, RecordWriter, Tensor};
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-writer-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("model.quant");
/// let entries = vec![RecordEntry::new("a", [2], None), RecordEntry::new("b", [], None)];
/// let mut writer = RecordWriter::create(&path, Default::default(), entries, vec![])?;
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
    /// Begins a record of these tensors, with the user's own pairs and the states of modules.
    ///
    /// # Errors
    /// A name that is there twice; a shape and scheme that make no tensor; a header beyond the
    /// limit: all before anything is written. The system's, with the path.
    pub fn create(
        path: impl AsRef<Path>,
        metadata: BTreeMap<String, String>,
        entries: Vec<RecordEntry>,
        states: Vec<State>,
    ) -> Result<Self, RecordError> {
        let outline = Outline { metadata, entries, states, max_part_size: None };
        Self::begin(path.as_ref(), outline)
    }

    /// Begins a record in parts of at most `max_part_size` bytes, or of one tensor where that
    /// alone is larger; see
    /// [`BincodeRecorder::with_max_part_size`](crate::record::BincodeRecorder::with_max_part_size).
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn create_in_parts(
        path: impl AsRef<Path>,
        max_part_size: u64,
        metadata: BTreeMap<String, String>,
        entries: Vec<RecordEntry>,
        states: Vec<State>,
    ) -> Result<Self, RecordError> {
        let max_part_size = Some(max_part_size);
        Self::begin(path.as_ref(), Outline { metadata, entries, states, max_part_size })
    }

    pub(crate) fn begin(path: &Path, outline: Outline) -> Result<Self, RecordError> {
        let stream = Stream::create(System, path, outline).map_err(|error| error.in_file(path))?;
        Ok(Self { stream, path: path.into() })
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// Another name, shape or scheme than was declared: nothing is written then, and the right
    /// tensor may follow. The system's, with the path; nothing can be written after it.
    pub fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError> {
        self.stream.write(id, tensor.into()).map_err(|error| error.in_file(&self.path))
    }

    /// Writes states and header, brings the record to the disk and gives it its name.
    ///
    /// # Errors
    /// A tensor that was declared and not written. The system's, with the path.
    pub fn finish(self) -> Result<(), RecordError> {
        let Self { stream, path } = self;
        stream.finish().map_err(|error| error.in_file(&path))
    }
}
