//! Records as checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quant::RecordError;
use quant::Tensor;
use quant::record::{RecordEntry, RecordFile, RecordState};

use crate::entry::{Entry, StateEntry};
use crate::format::Format;
use crate::source::Source;

/// A record on disk, in one file or shards.
pub(crate) struct Record {
    path: PathBuf,
    file: RecordFile,
    entries: Vec<Entry>,
}

impl Record {
    pub(crate) fn open(path: &Path) -> Result<Self, RecordError> {
        let file = RecordFile::open(path)?;
        let entry = |(index, entry): (usize, &RecordEntry)| {
            let bytes = file.sections(index).map(|section| section.len).sum();
            Entry::new(entry.id.clone(), entry.shape.clone(), entry.stored.into(), bytes)
        };
        let entries = file.entries().iter().enumerate().map(entry).collect();
        Ok(Self { path: path.into(), file, entries })
    }
}

impl Source for Record {
    fn format(&self) -> Format {
        Format::Record
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.file.metadata()
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn state_entries(&self) -> Vec<StateEntry> {
        let states = self.file.state_sizes();
        states.map(|(id, kind, bytes)| StateEntry::new(id.clone(), kind.into(), bytes)).collect()
    }

    fn files(&self) -> Vec<&Path> {
        // The index of shards is not among the paths of the record.
        let shards = self.file.paths().filter(|path| *path != self.path);
        std::iter::once(&*self.path).chain(shards).collect()
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.file.read(index)
    }

    fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.file.verify(index)
    }

    fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        self.file.state(index)
    }
}
