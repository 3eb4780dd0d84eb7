//! What training attaches to an activation quantizer.

use alloc::boxed::Box;
use core::any::Any;

use super::observation::Observation;
use crate::module::Walk;
use crate::scheme::QuantParams;

/// How an observing quantizer behaves while its model is trained: implemented by the crate that
/// trains, and attached by [`ActivationQuantizer::begin_training`].
///
/// The quantizer owns it. Walks visit it below the quantizer's path, and clones of the quantizer
/// clone it. It is dropped when the quantizer takes another mode.
///
/// [`ActivationQuantizer::begin_training`]: super::ActivationQuantizer::begin_training
pub trait ActivationTraining: Walk + Any + Send + Sync {
    /// The training of a clone of the quantizer.
    fn boxed_clone(&self) -> Box<dyn ActivationTraining>;

    /// Whether values that pass now change what was observed.
    fn observes(&self) -> bool;

    /// The parameters that quantize the input now; `None` while it stays float.
    fn params(&self, seen: &Observation) -> Option<QuantParams>;

    /// The two bytes that a record has for it: the phase, and the zero point.
    fn save(&self) -> [u8; 2];

    /// Takes the two bytes of a record.
    ///
    /// # Errors
    /// A sentence that says why the bytes are not valid.
    fn load(&mut self, bytes: [u8; 2], seen: &Observation) -> Result<(), String>;
}

impl dyn ActivationTraining {
    /// The training as a `T`, if it is one.
    pub fn downcast_ref<T: ActivationTraining>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }

    /// The training as a `T` to be changed, if it is one.
    pub fn downcast_mut<T: ActivationTraining>(&mut self) -> Option<&mut T> {
        (self as &mut dyn Any).downcast_mut()
    }
}

impl Clone for Box<dyn ActivationTraining> {
    fn clone(&self) -> Self {
        (**self).boxed_clone()
    }
}
