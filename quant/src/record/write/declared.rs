//! Comparing the tensors that are written with those that were declared.

use super::error::ManifestError;
use super::manifest::LaterState;
use crate::module::ParamView;
use crate::record::format::entry::{RecordEntry, Stored};

/// The declared tensors of a file, which are written in order.
///
/// Each tensor is written between [`begin`](Self::begin) and [`end`](Self::end). If `end` was not
/// called, a part of the tensor may have been written, and the file can no longer be finished.
pub struct DeclaredOrder {
    entries: Vec<RecordEntry>,
    next: usize,
    writing: bool,
}

impl DeclaredOrder {
    /// The order of these entries.
    pub fn new(entries: Vec<RecordEntry>) -> Self {
        Self { entries, next: 0, writing: false }
    }

    /// Begins a tensor. After [`ManifestError::Unexpected`], the declared tensor can be begun.
    ///
    /// # Errors
    /// The tensor is not the next declared one, or the previous tensor was not ended.
    pub fn begin(&mut self, id: &str, param: ParamView<'_>) -> Result<(), ManifestError> {
        self.begin_entry(&RecordEntry::of_param(id, param))
    }

    /// Begins a tensor of which only the entry is known.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin).
    pub fn begin_entry(&mut self, found: &RecordEntry) -> Result<(), ManifestError> {
        if self.writing {
            return Err(ManifestError::Failed);
        }
        let expected = self.entries.get(self.next);
        if expected == Some(found) {
            self.writing = true;
            return Ok(());
        }
        let (id, expected) = (found.id.clone(), expected.cloned().map(Box::new));
        Err(ManifestError::Unexpected { id, expected, found: Box::new(found.clone()) })
    }

    /// Checks that a part is one of the tensor that was begun.
    ///
    /// # Errors
    /// No tensor was begun, or it is stored otherwise.
    pub fn check_part(&self, part: ParamView<'_>) -> Result<(), ManifestError> {
        match self.entries.get(self.next).filter(|_| self.writing) {
            Some(entry) if entry.stored == Stored::of(part) => Ok(()),
            Some(entry) => Err(ManifestError::Changed { id: entry.id.clone() }),
            None => Err(ManifestError::Failed),
        }
    }

    /// Whether a tensor was begun, and not ended.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// Ends the tensor, once all of it has been written.
    pub fn end(&mut self) {
        self.writing = false;
        self.next += 1;
    }

    /// Checks that all declared tensors have been written.
    ///
    /// # Errors
    /// A tensor is missing, or the last one was not ended.
    pub fn check_finished(&self) -> Result<(), ManifestError> {
        match self.entries.get(self.next) {
            _ if self.writing => Err(ManifestError::Failed),
            Some(missing) => Err(ManifestError::Missing { id: missing.id.clone() }),
            None => Ok(()),
        }
    }
}

/// The states of a file that are declared without their bytes and written in order.
pub struct LaterStates {
    states: Vec<LaterState>,
    next: usize,
}

impl LaterStates {
    /// The order of these states.
    pub fn new(states: Vec<LaterState>) -> Self {
        Self { states, next: 0 }
    }

    /// Takes the next state, which has this name and number of bytes.
    ///
    /// # Errors
    /// The state is not the next declared one.
    pub fn next(&mut self, id: &str, len: u64) -> Result<&LaterState, ManifestError> {
        match self.states.get(self.next) {
            Some(state) if state.id.as_str() == id && state.len == len => {
                self.next += 1;
                Ok(state)
            }
            expected => {
                let expected = expected.cloned().map(Box::new);
                Err(ManifestError::UnexpectedState { id: id.into(), len, expected })
            }
        }
    }

    /// The number of states that have been taken.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Checks that all declared states have been written.
    ///
    /// # Errors
    /// A state is missing.
    pub fn check_finished(&self) -> Result<(), ManifestError> {
        match self.states.get(self.next) {
            Some(missing) => Err(ManifestError::Missing { id: missing.id.clone() }),
            None => Ok(()),
        }
    }
}

impl DeclaredOrder {
    /// The position of the next tensor.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Whether no tensors were declared.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::tensor::Tensor;

    #[test]
    fn rejects_tensors_after_one_that_was_not_ended() {
        let tensor = Tensor::from_values(&[1], vec![1.0]).unwrap();
        let entry = |id: &str| RecordEntry::of_param(id, (&tensor).into());
        let unfinished =
            |result: Result<(), ManifestError>| matches!(result, Err(ManifestError::Failed));
        let mut order = DeclaredOrder::new(vec![entry("a"), entry("b")]);

        let skipped = order.begin("b", (&tensor).into());
        assert!(matches!(skipped, Err(ManifestError::Unexpected { .. })));
        order.begin("a", (&tensor).into()).unwrap();
        assert!(unfinished(order.begin("a", (&tensor).into())), "the same tensor again");
        assert!(unfinished(order.begin("b", (&tensor).into())), "the tensor after it");
        assert!(unfinished(order.check_finished()));

        order.end();
        order.begin("b", (&tensor).into()).unwrap();
        order.end();
        order.check_finished().unwrap();
    }
}
