//! Keeping to what was declared.

use super::{RecordEntry, RecordError};
use crate::module::ParamView;

/// The tensors of an outline, one after the other.
pub(crate) struct InOrder {
    entries: Vec<RecordEntry>,
    next: usize,
}

impl InOrder {
    pub(crate) fn new(entries: Vec<RecordEntry>) -> Self {
        Self { entries, next: 0 }
    }

    /// Compares a tensor with the declared one, which stays the next.
    pub(super) fn check(&self, id: &str, param: ParamView<'_>) -> Result<(), RecordError> {
        let expected = self.entries.get(self.next);
        let found = RecordEntry::of_param(id, param);
        if expected == Some(&found) {
            return Ok(());
        }
        let expected = expected.cloned().map(Box::new);
        Err(RecordError::NotDeclared { id: found.id.clone(), expected, found: Box::new(found) })
    }

    /// Goes on to the tensor after the next.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Checks that all have been taken.
    pub(crate) fn check_finished(&self) -> Result<(), RecordError> {
        match self.entries.get(self.next) {
            Some(missing) => Err(RecordError::Unfinished { id: Some(missing.id.clone()) }),
            None => Ok(()),
        }
    }
}

#[cfg(feature = "formats")]
impl InOrder {
    /// The position of a tensor, once it is the declared one.
    pub(crate) fn take(&mut self, id: &str, param: ParamView<'_>) -> Result<usize, RecordError> {
        self.check(id, param)?;
        self.advance();
        Ok(self.next - 1)
    }

    /// Whether there never was one.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
