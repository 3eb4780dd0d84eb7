//! States that are tensors of blocks, as entries that can be read as floats.

use std::collections::HashSet;
use std::ops::Range;

use quant::RecordError;
use quant::Tensor;
use quant::record::{RecordFormatError, RecordState};

use crate::entry::{Entry, StateEntry, Stored};
use crate::ggml::{blocks_of_kind, decode};
use crate::source::{Source, states_at};

/// The entries of a source together with its tensors of blocks, which it has as states.
pub(crate) struct Blocks {
    /// Those of the source, then the tensors of blocks.
    pub(crate) entries: Vec<Entry>,
    /// The position of each tensor of blocks among the states of the source.
    states: Vec<usize>,
    /// The positions of the other states.
    others: Vec<usize>,
}

impl Blocks {
    /// `None` if no state is a tensor of blocks, or if one has the name of an entry.
    pub(crate) fn of(source: &dyn Source) -> Option<Self> {
        let (mut blocks, mut states, mut others) = (vec![], vec![], vec![]);
        for (position, StateEntry { id, kind, bytes }) in
            source.state_entries().into_iter().enumerate()
        {
            match blocks_of_kind(&kind, bytes) {
                Some((ty, shape)) => {
                    blocks.push(Entry::new(id, shape, Stored::Blocks(ty), bytes));
                    states.push(position);
                }
                None => others.push(position),
            }
        }
        let names: HashSet<_> = blocks.iter().map(|entry| &entry.id).collect();
        if names.is_empty() || source.entries().iter().any(|entry| names.contains(&entry.id)) {
            return None;
        }
        let entries = source.entries().iter().cloned().chain(blocks).collect();
        Some(Self { entries, states, others })
    }

    /// The position in the source of a state that is not a tensor of blocks.
    pub(crate) fn other(&self, index: usize) -> usize {
        self.others[index]
    }

    /// The states that are not tensors of blocks.
    pub(crate) fn other_entries(&self, source: &dyn Source) -> Vec<StateEntry> {
        states_at(source, &self.others)
    }

    /// Reads the states that are not tensors of blocks.
    pub(crate) fn other_states(
        &self,
        source: &dyn Source,
    ) -> Result<Vec<RecordState>, RecordError> {
        self.others.iter().map(|&at| source.state(at)).collect()
    }

    /// Reads the tensor at this position in [`entries`](Self::entries).
    pub(crate) fn read(
        &self,
        source: &dyn Source,
        index: usize,
        allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        match self.state(source, index) {
            Some(state) => tensor(&self.entries[index], &source.state(state)?, allocation),
            None => source.read_into(index, allocation),
        }
    }

    /// As [`Source::grain`], for a position in [`entries`](Self::entries): a row of blocks.
    pub(crate) fn grain(&self, source: &dyn Source, index: usize) -> Option<usize> {
        match self.state(source, index) {
            Some(state) if source.divides_state(state) => {
                self.entries[index].shape.last().copied().filter(|&row| row > 0)
            }
            Some(_) => None,
            None => source.grain(index),
        }
    }

    /// As [`Source::read_part`], for a position in [`entries`](Self::entries).
    pub(crate) fn read_part(
        &self,
        source: &dyn Source,
        index: usize,
        elements: Range<usize>,
        mut values: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        let Some(state) = self.state(source, index) else {
            return source.read_part(index, elements, values);
        };
        let (entry, count) = (&self.entries[index], elements.len());
        if let Stored::Blocks(ty) = entry.stored {
            let data = source.state_part(state, ty.bytes_of(elements))?;
            values.clear();
            values.resize(count, 0.0);
            decode(ty, &data, &mut values);
        }
        Tensor::from_values(&[count], values)
            .map_err(|source| RecordFormatError::Tensor { id: entry.id.clone(), source }.into())
    }

    /// As [`Source::verify`], for a position in [`entries`](Self::entries).
    pub(crate) fn verify(&self, source: &dyn Source, index: usize) -> Result<(), RecordError> {
        match self.state(source, index) {
            Some(state) => source.state(state).map(drop),
            None => source.verify(index),
        }
    }

    /// The position among the states of the source of the tensor at this position in
    /// [`entries`](Self::entries); `None` if it is not in blocks.
    pub(crate) fn state(&self, source: &dyn Source, index: usize) -> Option<usize> {
        self.states.get(index.checked_sub(source.entries().len())?).copied()
    }
}

fn tensor(entry: &Entry, state: &RecordState, mut values: Vec<f32>) -> Result<Tensor, RecordError> {
    if let Stored::Blocks(ty) = entry.stored {
        values.clear();
        values.resize(entry.element_count(), 0.0);
        decode(ty, &state.data, &mut values);
    }
    Tensor::from_values(&entry.shape, values)
        .map_err(|source| RecordFormatError::Tensor { id: entry.id.clone(), source }.into())
}
