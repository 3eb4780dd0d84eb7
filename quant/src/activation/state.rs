//! The state of an activation quantizer.

use alloc::boxed::Box;
use core::fmt;
use std::sync::Mutex;

use super::observation::{Observation, locked};
use super::training::ActivationTraining;
use crate::scheme::{
    ActivationMapping, ActivationScheme, DynamicQuantization, QuantParams, Quantization,
    QuantizationType,
};

/// What an activation quantizer is doing.
#[derive(Clone, Debug, Default)]
pub(super) enum State {
    #[default]
    Float,
    /// To be quantized, but neither prepared nor calibrated yet.
    Pending(ActivationScheme),
    Dynamic(DynamicQuantization),
    Static(Fixed),
    Observing(Observing),
}

/// The parameters of a static activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fixed {
    pub(super) ty: QuantizationType,
    pub(super) mapping: ActivationMapping,
    pub(super) params: QuantParams,
}

/// On the way to static.
pub(super) struct Observing {
    /// Behind a lock, because a forward pass has the model by reference.
    pub(super) seen: Mutex<Observation>,
    /// Whether calibration has ended, so that a forward pass is a mistake until the conversion.
    pub(super) ended: bool,
    pub(super) training: Option<Box<dyn ActivationTraining>>,
}

impl Observing {
    pub(super) fn new(seen: Observation) -> Self {
        Self { seen: Mutex::new(seen), ended: false, training: None }
    }

    pub(super) fn observes(&self) -> bool {
        self.training.as_ref().is_none_or(|training| training.observes())
    }

    /// The parameters in training, as a kernel takes them.
    pub(super) fn fixed(&self) -> Option<Quantization> {
        let training = self.training.as_ref()?;
        let seen = locked(&self.seen);
        Some(Quantization::new(training.params(&seen)?, seen.grid()))
    }
}

impl fmt::Debug for Observing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Observing");
        fields.field("seen", &*locked(&self.seen)).field("ended", &self.ended);
        fields.field("in_training", &self.training.is_some()).finish()
    }
}

impl Clone for Observing {
    fn clone(&self) -> Self {
        let seen = Mutex::new(locked(&self.seen).clone());
        Self { seen, ended: self.ended, training: self.training.clone() }
    }
}
