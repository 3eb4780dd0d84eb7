//! What others attach to a parameter.

use alloc::boxed::Box;
use core::any::Any;

use super::Walk;

/// What a crate on top of this one keeps beside a float parameter: training, for example, its
/// scales and its phase.
///
/// The parameter owns its attachment, and has at most one. Walks visit it after the parameter,
/// below the parameter's path, so that its own parameters are saved, loaded and optimized. Clones
/// of the parameter get [a clone](Self::boxed_clone). It is dropped when the parameter is
/// quantized or another attachment takes its place; changing the float value keeps it.
pub trait Attachment: Walk + Any + Send + Sync {
    /// The attachment of a clone of the parameter.
    fn boxed_clone(&self) -> Box<dyn Attachment>;
}

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

impl dyn Attachment {
    /// The attachment as a `T`, if it is one.
    pub fn downcast_ref<T: Attachment>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }

    /// The attachment as a `T` to be changed, if it is one.
    pub fn downcast_mut<T: Attachment>(&mut self) -> Option<&mut T> {
        (self as &mut dyn Any).downcast_mut()
    }
}
