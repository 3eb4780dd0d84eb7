//! What each format implements to be read.

use std::collections::BTreeMap;
use std::ops::Range;
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

/// A quantized tensor whose columns are in another order.
pub(crate) struct Sorted {
    pub(crate) tensor: Tensor,
    /// For each column, the position that it had.
    pub(crate) order: Vec<u32>,
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

    /// The number of elements at multiples of which a part of a tensor may start; `None` if the tensor
    /// is read whole only.
    fn grain(&self, _index: usize) -> Option<usize> {
        None
    }

    /// Reads a part of a tensor that has a [grain](Self::grain), and is not all of it. The part has the
    /// shape `[elements]`, or `[rows, row]` if the tensor is quantized.
    fn read_part(
        &self,
        index: usize,
        _elements: Range<usize>,
        allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        self.read_into(index, allocation)
    }

    /// Maps the files into memory, so that float tensors borrow from them. In memory, they do already.
    ///
    /// # Safety
    /// As long as the source or a tensor that it has read exists, no file is modified in place, nor
    /// truncated.
    #[cfg(feature = "mmap")]
    unsafe fn map(&mut self) -> Result<(), RecordError> {
        Ok(())
    }

    /// The position of an earlier tensor of which this one is another name, if it is.
    fn alias_of(&self, _index: usize) -> Option<usize> {
        None
    }

    /// Compares the bytes of a tensor with what the file says about them.
    fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.read(index).map(drop)
    }

    /// Reads the state at this position in [`state_entries`](Self::state_entries).
    fn state(&self, index: usize) -> Result<RecordState, RecordError>;

    /// Whether parts of a state can be read.
    fn divides_state(&self, _index: usize) -> bool {
        false
    }

    /// Reads bytes of a state that [can be divided](Self::divides_state), or all of another one.
    fn state_part(&self, index: usize, _bytes: Range<usize>) -> Result<Vec<u8>, RecordError> {
        Ok(self.state(index)?.data)
    }

    fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        (0..self.state_entries().len()).map(|index| self.state(index)).collect()
    }

    /// Reads the codes of a tensor whose columns are not in the order of their groups, with its columns
    /// sorted by group; `None` for other tensors, and if no scheme has them so.
    fn read_sorted(&self, _index: usize) -> Result<Option<Sorted>, RecordError> {
        Ok(None)
    }

    /// The tensors that another program has quantized, if there are any.
    fn prequantized(&self) -> Option<&PreQuantized> {
        None
    }
}
