//! Checkpoints that are read whole.

use std::collections::BTreeMap;

use super::{Checkpoint, Entry, Format};
use quant::module::ParamId;
use quant::record::{Record, RecordEntry, RecordError, RecordState};
use quant::tensor::Tensor;

/// A record in memory, seen as a file of some format.
pub(super) struct InMemory {
    format: Format,
    entries: Vec<Entry>,
    metadata: BTreeMap<String, String>,
    states: Vec<RecordState>,
    tensors: Vec<(ParamId, Tensor)>,
}

impl InMemory {
    pub(super) fn new(format: Format, record: Record) -> Self {
        let (metadata, states) = (record.metadata().clone(), record.states().to_vec());
        let tensors: Vec<_> = record.into_iter().collect();
        let entry = |(id, tensor): &(ParamId, Tensor)| {
            Entry::of_record(RecordEntry::of(id.clone(), tensor))
        };
        Self { format, entries: tensors.iter().map(entry).collect(), metadata, states, tensors }
    }
}

impl Checkpoint for InMemory {
    fn format(&self) -> Format {
        self.format
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        Ok(self.tensors[index].1.clone())
    }

    fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        Ok(self.states.clone())
    }
}
