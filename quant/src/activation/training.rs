//! How the input of a layer is quantized while the layer is trained.

use std::sync::Mutex;

use candle_core::{Device, Tensor, Var};

use super::quantizer::{Observation, locked};
use crate::kernel::Static;
use crate::module::Param;
use crate::scheme::QuantParams;
use crate::tensor::FloatTensor;
use crate::training::{Phase, StepSize, learns_ranges};

/// The state of an activation in training.
#[derive(Debug)]
pub(super) struct Training {
    pub(super) seen: Mutex<Observation>,
    pub(super) phase: Phase,
    /// What is learned, if it is: 0 while activations are observed. On the host.
    pub(super) scale: Option<Param<Tensor>>,
    /// Beside a learned scale.
    pub(super) zero_point: i8,
}

impl Training {
    pub(super) fn new(seen: Observation, steps: StepSize) -> Self {
        let scale = (steps == StepSize::Learned).then(|| {
            let var = Var::from_vec(vec![0.0f32], 1, &Device::Cpu);
            Param::new(var.expect("the host has room for one number").into_inner())
        });
        Self { seen: Mutex::new(seen), phase: Phase::Observe, scale, zero_point: 0 }
    }

    /// Whether values that pass now change anything.
    pub(super) fn observes(&self) -> bool {
        let moves = match self.phase {
            Phase::Observe => true,
            Phase::Fake => self.scale.is_none(),
            Phase::Frozen => false,
        };
        moves && learns_ranges()
    }

    /// The parameters in use; `None` while observing, or where nothing was seen.
    pub(super) fn params(&self) -> Option<QuantParams> {
        if self.phase == Phase::Observe {
            return None;
        }
        match self.scale.as_ref().and_then(Param::as_float) {
            Some(scale) => {
                let scale = FloatTensor::values(scale).first().copied().unwrap_or(0.0);
                Some(QuantParams { scale, zero_point: self.zero_point })
            }
            None => self.observed(),
        }
    }

    /// The parameters for the range that was observed.
    pub(super) fn observed(&self) -> Option<QuantParams> {
        let seen = locked(&self.seen);
        // An f32 scale of a range always exists.
        seen.range().and_then(|range| seen.grid().params(range).ok())
    }

    /// The parameters in use, as a kernel wants them.
    pub(super) fn fixed(&self) -> Option<Static> {
        let QuantParams { scale, zero_point } = self.params()?;
        let (qmin, qmax) = locked(&self.seen).grid().code_range();
        Some(Static { scale, zero_point, range: (qmin as i8, qmax as i8) })
    }

    /// Changes the phase; `false` if there is no range to go on with.
    pub(super) fn set_phase(&mut self, phase: Phase) -> bool {
        if self.phase == Phase::Observe && phase != Phase::Observe {
            let Some(params) = self.observed() else { return false };
            if let Some(scale) = &self.scale {
                self.zero_point = params.zero_point;
                if crate::training::set(scale, vec![params.scale]).is_err() {
                    return false;
                }
            }
        }
        self.phase = phase;
        true
    }
}

impl Clone for Training {
    fn clone(&self) -> Self {
        Self {
            seen: Mutex::new(locked(&self.seen).clone()),
            phase: self.phase,
            scale: self.scale.clone(),
            zero_point: self.zero_point,
        }
    }
}
