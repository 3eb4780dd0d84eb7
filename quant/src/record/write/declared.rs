//! Keeping to what was declared.

use crate::module::ParamView;
use crate::record::error::RecordError;
use crate::record::format::entry::RecordEntry;

/// The tensors of an outline, one after the other.
///
/// A tensor is written between [`begin`](Self::begin) and [`end`](Self::end). Where the second
/// is missing, part of a tensor may lie in the file: nothing follows it, and nothing is finished.
pub struct InOrder {
    entries: Vec<RecordEntry>,
    next: usize,
    writing: bool,
}

impl InOrder {
    /// Expects these tensors, in this order.
    pub fn new(entries: Vec<RecordEntry>) -> Self {
        Self { entries, next: 0, writing: false }
    }

    /// Begins with a tensor, if it is the next that was declared. Another may follow if not.
    pub fn begin(&mut self, id: &str, param: ParamView<'_>) -> Result<(), RecordError> {
        if self.writing {
            return Err(RecordError::Unfinished { id: None });
        }
        let expected = self.entries.get(self.next);
        let found = RecordEntry::of_param(id, param);
        if expected == Some(&found) {
            self.writing = true;
            return Ok(());
        }
        let expected = expected.cloned().map(Box::new);
        Err(RecordError::NotDeclared { id: found.id.clone(), expected, found: Box::new(found) })
    }

    /// Goes on, once all of the tensor is written.
    pub fn end(&mut self) {
        self.writing = false;
        self.next += 1;
    }

    /// Checks that all have been written.
    pub fn check_finished(&self) -> Result<(), RecordError> {
        match self.entries.get(self.next) {
            _ if self.writing => Err(RecordError::Unfinished { id: None }),
            Some(missing) => Err(RecordError::Unfinished { id: Some(missing.id.clone()) }),
            None => Ok(()),
        }
    }
}

impl InOrder {
    /// The position of the next tensor.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Whether there never was one.
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
    fn nothing_follows_a_tensor_that_was_not_ended() {
        let tensor = Tensor::from_values(&[1], vec![1.0]).unwrap();
        let entry = |id: &str| RecordEntry::of_param(id, (&tensor).into());
        let unfinished = |result: Result<(), RecordError>| {
            matches!(result, Err(RecordError::Unfinished { id: None }))
        };
        let mut order = InOrder::new(vec![entry("a"), entry("b")]);

        let skipped = order.begin("b", (&tensor).into());
        assert!(matches!(skipped, Err(RecordError::NotDeclared { .. })));
        order.begin("a", (&tensor).into()).unwrap();
        assert!(unfinished(order.begin("a", (&tensor).into())), "not a second time");
        assert!(unfinished(order.begin("b", (&tensor).into())), "and not the one after it");
        assert!(unfinished(order.check_finished()));

        order.end();
        order.begin("b", (&tensor).into()).unwrap();
        order.end();
        order.check_finished().unwrap();
    }
}
