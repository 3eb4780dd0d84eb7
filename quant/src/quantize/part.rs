//! A tensor in parts: what is decided about the whole is done to each.

use alloc::vec::Vec;

use super::decide::Decided;
use super::error::QuantizeError;
use super::fit::Fitted;
use super::measure::{Effect, Measured, measure};
use super::planner::Choice;
use super::spread::Spread;
use crate::module::ParamView;
use crate::scheme::{QuantizationScheme, element_count};
use crate::tensor::{FloatType, Grain, QuantizedTensor, groups_before};

impl Decided {
    /// The number of elements at multiples of which a part may start; `None` if the tensor cannot be
    /// divided.
    pub fn grain(&self) -> Option<usize> {
        match (self.choice(), self.info.scheme) {
            (Some(choice), _) => choice.grain(&self.info.shape),
            (None, None) => Some(1),
            (None, Some(_)) => None,
        }
    }

    /// The bytes of the second moments that quantizing each part needs.
    pub fn beside(&self) -> u64 {
        self.choice().map_or(0, Choice::moment_bytes)
    }

    /// Whether the same becomes of another tensor with the same values. The codes of what second moments
    /// weigh depend on more than the values.
    pub fn is_same(&self, other: &Self) -> bool {
        self.beside() == 0 && other.beside() == 0 && self.choice() == other.choice()
    }

    /// What becomes of the part that starts at the element `at`.
    ///
    /// # Errors
    /// The part cannot be quantized.
    pub fn measure_part(&self, at: usize, part: ParamView<'_>) -> Result<Effect, QuantizeError> {
        Ok(self.fit_part(at, part)?.0)
    }

    /// Quantizes the part that starts at the element `at`; `None` if it stays as it is.
    ///
    /// # Errors
    /// The part cannot be quantized.
    pub fn quantize_part(
        &self,
        at: usize,
        part: ParamView<'_>,
    ) -> Result<(Effect, Option<QuantizedTensor>), QuantizeError> {
        let Some(choice) = self.choice() else { return Ok((kept(part), None)) };
        // Half precision is widened once.
        let values = part.values();
        let Measured { effect, fitted } = self.measure(at, &values, choice)?;
        let effect = self.with_spread(effect, at, &values, choice);
        let shape = self.part_shape(values.len(), choice.scheme);
        Ok((effect, Some(fitted.quantize(&shape, &values))))
    }

    /// As [`measure_part`](Self::measure_part), with the parameters of the groups of the part.
    pub(super) fn fit_part(
        &self,
        at: usize,
        part: ParamView<'_>,
    ) -> Result<(Effect, Option<Fitted>), QuantizeError> {
        let Some(choice) = self.choice() else { return Ok((kept(part), None)) };
        let values = part.values();
        let Measured { effect, fitted } = self.measure(at, &values, choice)?;
        Ok((self.with_spread(effect, at, &values, choice), Some(fitted)))
    }

    /// The effect on a part with these values, and what other axes have to do with it.
    fn with_spread(&self, effect: Effect, at: usize, values: &[f32], choice: &Choice) -> Effect {
        effect.with_spread(Spread::unless_even(&self.info.shape, choice.scheme, at, values))
    }

    /// How the tensor is going to be quantized, if it is.
    pub(super) fn choice(&self) -> Option<&Choice> {
        self.decision.choice.as_ref().filter(|_| self.info.scheme.is_none())
    }

    /// What `choice` does to the part that starts at the element `at`.
    pub(super) fn measure(
        &self,
        at: usize,
        values: &[f32],
        choice: &Choice,
    ) -> Result<Measured, QuantizeError> {
        let shape = self.part_shape(values.len(), choice.scheme);
        measure(&self.info.id, &shape, values, choice).map_err(|error| match error {
            QuantizeError::Param { id, scheme, source } if at > 0 => {
                let groups = groups_before(&self.info.shape, scheme, at);
                QuantizeError::Param { id, scheme, source: source.in_part(at, groups) }
            }
            other => other,
        })
    }

    fn part_shape(&self, count: usize, scheme: QuantizationScheme) -> Vec<usize> {
        let shape = &self.info.shape;
        match Grain::of(shape, scheme).filter(|_| element_count(shape) != Some(count)) {
            Some(grain) => grain.part_shape(shape, scheme, count),
            None => shape.clone(),
        }
    }
}

/// What becomes of a part that is not quantized: what quantization would refuse, a float tensor may
/// keep, but not in silence.
fn kept(part: ParamView<'_>) -> Effect {
    Effect::kept(part.byte_count(), non_finite_values(part))
}

/// The number of float values that are NaN or infinite; half precision is not widened for it.
pub fn non_finite_values(part: ParamView<'_>) -> u64 {
    /// The bits of the exponent, which are those of infinity.
    const F16: u16 = 0x7C00;
    const BF16: u16 = 0x7F80;
    let count = match (part.float_type(), part.half_bits()) {
        (None, _) => 0,
        (Some(ty), Some(bits)) => {
            let exponent = if ty == FloatType::F16 { F16 } else { BF16 };
            bits.iter().filter(|&&bits| bits & exponent == exponent).count()
        }
        (Some(_), None) => part.values().iter().filter(|value| !value.is_finite()).count(),
    };
    count as u64
}
