//! What training attaches to an activation quantizer.

use std::boxed::Box;

use candle_core::{Device, Tensor, Var};

use super::phase::Phase;
use super::scale::ScaleSource;
use super::train_mode::updates_ranges;
use super::weight::set;
use quant::FloatTensor;
use quant::Param;
use quant::activation::{ActivationQuantizer, ActivationTraining, Observation};
use quant::module::{Walk, Walker, WalkerMut};
use quant::scheme::{QuantParams, ScaleError};
use quant::tensor::TensorError;

/// The attachment of an observing activation quantizer.
#[derive(Clone)]
pub(crate) struct FakeActivation {
    phase: Phase,
    /// The learned scale, on the CPU; 0 in [`Phase::Observe`]. `None` if the scale follows the
    /// range.
    scale: Option<Param<Tensor>>,
    /// The zero point that belongs to a learned scale.
    zero_point: i8,
}

/// Attaches a [`FakeActivation`], if the activation is observing.
pub(crate) fn begin(activation: &mut ActivationQuantizer, scale_source: ScaleSource) {
    activation.begin_training(|| Box::new(FakeActivation::new(scale_source)));
}

/// The phase of the activation's training; `None` if it is not in training.
pub(crate) fn phase(activation: &ActivationQuantizer) -> Option<Phase> {
    Some(FakeActivation::of(activation)?.phase)
}

/// Whether the activation can be fake-quantized: it has a range, or is not in training.
pub(crate) fn is_ready(activation: &ActivationQuantizer) -> bool {
    activation.training().is_none() || activation.observed_params().is_some()
}

/// Changes the phase, if the activation is in training.
///
/// # Errors
/// The device of a learned scale fails. The phase does not change then.
pub(crate) fn set_phase(
    activation: &mut ActivationQuantizer,
    phase: Phase,
) -> Result<(), TensorError> {
    let observed = activation.observed_params();
    let Some((training, _)) = activation.training_mut() else { return Ok(()) };
    match training.downcast_mut::<FakeActivation>() {
        Some(fake) => fake.set_phase(phase, observed),
        None => Ok(()),
    }
}

/// The scale of the activation, if it is trained in this phase.
pub(crate) fn learned_scale(activation: &ActivationQuantizer) -> Option<&Tensor> {
    let fake = FakeActivation::of(activation).filter(|fake| fake.phase == Phase::FakeQuant)?;
    fake.scale.as_ref()?.as_float()
}

/// Checks the learned scale of the activation, if it has one that is set.
///
/// # Errors
/// A scale that quantizes nothing: 0, subnormal, infinite or NaN.
pub(crate) fn check_scale(activation: &ActivationQuantizer) -> Result<(), ScaleError> {
    let fake = FakeActivation::of(activation).filter(|fake| fake.phase != Phase::Observe);
    let Some(fake) = fake else { return Ok(()) };
    fake.learned().map_or(Ok(()), |scale| QuantParams::new(scale, fake.zero_point).map(drop))
}

impl FakeActivation {
    fn new(scale_source: ScaleSource) -> Self {
        let scale = (scale_source == ScaleSource::Learned).then(|| {
            let var = Var::from_vec(vec![0.0f32], 1, &Device::Cpu);
            Param::new(var.expect("the host has room for one number").into_inner())
        });
        Self { phase: Phase::Observe, scale, zero_point: 0 }
    }

    fn of(activation: &ActivationQuantizer) -> Option<&Self> {
        activation.training()?.downcast_ref()
    }

    /// The value of the learned scale.
    fn learned(&self) -> Option<f32> {
        let scale = self.scale.as_ref()?.as_float()?;
        Some(FloatTensor::values(scale).first().copied().unwrap_or(0.0))
    }

    fn set_phase(
        &mut self,
        phase: Phase,
        observed: Option<QuantParams>,
    ) -> Result<(), TensorError> {
        // A learned scale starts as that of the observed range.
        if self.phase == Phase::Observe
            && phase != Phase::Observe
            && let (Some(scale), Some(params)) = (&self.scale, observed)
        {
            set(scale, vec![params.scale()])?;
            self.zero_point = params.zero_point();
        }
        self.phase = phase;
        Ok(())
    }
}

impl ActivationTraining for FakeActivation {
    fn boxed_clone(&self) -> Box<dyn ActivationTraining> {
        Box::new(self.clone())
    }

    fn observes(&self) -> bool {
        let moves = match self.phase {
            Phase::Observe => true,
            Phase::FakeQuant => self.scale.is_none(),
            Phase::Frozen => false,
        };
        moves && updates_ranges()
    }

    fn params(&self, seen: &Observation) -> Option<QuantParams> {
        if self.phase == Phase::Observe {
            return None;
        }
        match self.learned() {
            // The layer refuses a scale that is not positive and normal.
            Some(scale) => Some(QuantParams::from_checked(scale, self.zero_point)),
            None => seen.range().and_then(|range| seen.grid().params(range).ok()),
        }
    }

    fn save(&self) -> [u8; 2] {
        [self.phase as u8, self.zero_point as u8]
    }

    fn load(&mut self, [phase, zero_point]: [u8; 2], seen: &Observation) -> Result<(), String> {
        let phase = Phase::ALL.into_iter().find(|&known| known as u8 == phase);
        let phase = phase.ok_or("the activation is in an unknown phase of training")?;
        let zero_point = zero_point as i8;
        let (qmin, qmax) = seen.grid().code_range();
        if !(qmin..=qmax).contains(&zero_point.into()) {
            return Err(format!(
                "the activation's zero point is {zero_point}, which is not a code"
            ));
        }
        (self.phase, self.zero_point) = (phase, zero_point);
        Ok(())
    }
}

impl Walk for FakeActivation {
    fn walk(&self, walker: &mut Walker<'_>) {
        if let Some(scale) = &self.scale {
            scale.walk(&mut walker.scale());
        }
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        if let Some(scale) = &mut self.scale {
            scale.walk_mut(&mut walker.scale());
        }
    }
}
