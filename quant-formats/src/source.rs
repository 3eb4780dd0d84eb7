//! What each format implements to be read.

use std::collections::BTreeMap;
use std::path::Path;

use quant::RecordError;
use quant::Tensor;
use quant::record::RecordState;

use crate::entry::{Entry, StateEntry};
use crate::format::Format;
use crate::method::PreQuantized;

/// The states of a source at these positions.
pub(crate) fn states_at(source: &dyn Source, positions: &[usize]) -> Vec<StateEntry> {
    let all = source.state_entries();
    positions.iter().map(|&position| all[position].clone()).collect()
}

/// An open file whose description of its tensors has been checked.
///
/// Positions are those in [`entries`](Self::entries); callers keep to them.
pub(crate) trait Source: Send + Sync {
    fn format(&self) -> Format;

    fn metadata(&self) -> &BTreeMap<String, String>;

    fn entries(&self) -> &[Entry];

    fn state_entries(&self) -> Vec<StateEntry>;

    /// Every file that is read.
    fn files(&self) -> Vec<&Path>;

    fn read(&self, index: usize) -> Result<Tensor, RecordError>;

    /// Reads a tensor into an allocation that the format may use: allocating takes longer than
    /// reading.
    fn read_into(&self, index: usize, allocation: Vec<f32>) -> Result<Tensor, RecordError> {
        drop(allocation);
        self.read(index)
    }

    /// Compares the bytes of a tensor with what the file says about them.
    fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.read(index).map(drop)
    }

    /// Reads the state at this position in [`state_entries`](Self::state_entries).
    fn state(&self, index: usize) -> Result<RecordState, RecordError>;

    fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        (0..self.state_entries().len()).map(|index| self.state(index)).collect()
    }

    /// The tensors that another program has quantized, if there are any.
    fn prequantized(&self) -> Option<&PreQuantized> {
        None
    }
}
