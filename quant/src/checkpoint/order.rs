//! Keeping to what was declared.

use std::collections::HashSet;

use crate::record::{RecordEntry, RecordError};
use crate::tensor::Tensor;

/// The tensors of an outline, taken one after the other.
pub(super) struct InOrder {
    entries: Vec<RecordEntry>,
    next: usize,
}

impl InOrder {
    pub(super) fn new(entries: Vec<RecordEntry>) -> Result<Self, RecordError> {
        let mut seen = HashSet::new();
        match entries.iter().find(|entry| !seen.insert(&entry.id)) {
            Some(twice) => Err(RecordError::DuplicateName { id: twice.id.clone() }),
            None => Ok(Self { entries, next: 0 }),
        }
    }

    /// Whether there never was one.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The position of a tensor, once it is the declared one.
    pub(super) fn take(&mut self, id: &str, tensor: &Tensor) -> Result<usize, RecordError> {
        let found = RecordEntry::of(id, tensor);
        let expected = self.entries.get(self.next);
        if expected != Some(&found) {
            let expected = expected.cloned().map(Box::new);
            let (id, found) = (found.id.clone(), Box::new(found));
            return Err(RecordError::NotDeclared { id, expected, found });
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Checks that all have been taken.
    pub(super) fn finish(self) -> Result<(), RecordError> {
        match self.entries.get(self.next) {
            Some(missing) => Err(RecordError::Unfinished { id: Some(missing.id.clone()) }),
            None => Ok(()),
        }
    }
}
