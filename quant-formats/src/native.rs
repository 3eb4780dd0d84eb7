//! Records as checkpoints.

use std::collections::BTreeMap;

use super::{Checkpoint, CheckpointWriter, Entry, Format};
use quant::record::{RecordError, RecordFile, RecordState, RecordWriter};
use quant::tensor::Tensor;

/// A record on disk.
pub(super) struct Native {
    file: RecordFile,
    entries: Vec<Entry>,
}

impl Native {
    pub(super) fn new(file: RecordFile) -> Self {
        let entries = file.entries().iter().cloned().map(Entry::of_record).collect();
        Self { file, entries }
    }
}

impl Checkpoint for Native {
    fn format(&self) -> Format {
        Format::Record
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.file.metadata()
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.file.read(index)
    }

    fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.file.verify(index)
    }

    fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        self.file.states()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.file.position(name)
    }
}

impl CheckpointWriter for RecordWriter {
    fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError> {
        Self::write(self, id, tensor)
    }

    fn finish(self: Box<Self>) -> Result<(), RecordError> {
        Self::finish(*self)
    }
}
