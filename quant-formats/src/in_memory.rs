//! Checkpoints that are read whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quant::RecordError;
use quant::Tensor;
use quant::record::{Record, RecordEntry, RecordState};

use crate::entry::{Entry, StateEntry};
use crate::format::Format;
use crate::source::Source;

/// A JSON file that has been read.
pub(crate) struct InMemory {
    path: PathBuf,
    entries: Vec<Entry>,
    metadata: BTreeMap<String, String>,
    states: Vec<RecordState>,
    tensors: Vec<Tensor>,
}

impl InMemory {
    pub(crate) fn new(path: &Path, record: Record) -> Self {
        let (metadata, states) = (record.metadata().clone(), record.states().to_vec());
        let (mut entries, mut tensors) = (Vec::new(), Vec::new());
        for (id, tensor) in record {
            entries.push(Entry::of_record(RecordEntry::of(id, &tensor)));
            tensors.push(tensor);
        }
        Self { path: path.into(), entries, metadata, states, tensors }
    }
}

impl Source for InMemory {
    fn format(&self) -> Format {
        Format::Json
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn state_entries(&self) -> Vec<StateEntry> {
        self.states.iter().map(StateEntry::of).collect()
    }

    fn files(&self) -> Vec<&Path> {
        vec![&self.path]
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        Ok(self.tensors[index].clone())
    }

    fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        Ok(self.states[index].clone())
    }
}
