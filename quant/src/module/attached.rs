//! The slot of a parameter for what others attach.

use alloc::boxed::Box;

use super::walk::Attachment;

/// The attachment of a parameter, if there is one.
#[derive(Default)]
pub(super) struct Slot(Option<Box<dyn Attachment>>);

impl Slot {
    pub(super) fn set(&mut self, attachment: Option<Box<dyn Attachment>>) {
        self.0 = attachment;
    }

    pub(super) fn as_dyn(&self) -> Option<&dyn Attachment> {
        self.0.as_deref()
    }

    pub(super) fn as_dyn_mut(&mut self) -> Option<&mut dyn Attachment> {
        self.0.as_deref_mut()
    }
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        Self(self.0.as_deref().map(Attachment::boxed_clone))
    }
}
