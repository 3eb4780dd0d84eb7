//! One scheme for all parameters.

use alloc::vec::Vec;

use super::error::QuantizeError;
use super::plan::{Plan, plan};
use super::planner::{Candidate, Choice, Decision, Planner};
use crate::calibration::Calibration;
use crate::module::Walk;
use crate::scheme::QuantizationScheme;

/// Quantizes every parameter of rank 2 and above by one scheme and one calibration.
///
/// Parameters of rank 0 and 1 (biases, norms) stay float. An attribute on a field overrules the
/// rank: `#[module(quantize)]`, `#[module(keep)]`, `#[module(scheme = …)]`.
///
/// ```
/// use quant::{MinMaxCalibration, Module, Param, QuantizationScheme, QuantizationType, Quantizer};
///
/// #[derive(Module)]
/// struct Dense { weight: Param<[[f32; 3]; 2]>, bias: Param<[f32; 2]> }
///
/// let dense = Dense { weight: Param::new([[0.5; 3]; 2]), bias: Param::new([0.0; 2]) };
/// let mut quantizer = Quantizer {
///     calibration: MinMaxCalibration {},
///     scheme: QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8),
/// };
/// let dense = dense.quantize_weights(&mut quantizer)?;
/// assert!(dense.weight.is_quantized() && !dense.bias.is_quantized());
/// # Ok::<(), quant::QuantizeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantizer<C> {
    /// The calibration that finds the ranges.
    pub calibration: C,
    /// The scheme of all quantized parameters.
    pub scheme: QuantizationScheme,
}

impl<C: Calibration + Clone + Send + Sync + 'static> Quantizer<C> {
    /// What [`Module::quantize_weights`](crate::Module::quantize_weights) would do, without doing it.
    ///
    /// # Errors
    /// See [`QuantizeError`].
    pub fn plan(&self, model: &(impl Walk + ?Sized)) -> Result<Plan, QuantizeError> {
        plan(self, model)
    }
}

impl<C: Calibration + Clone + Send + Sync + 'static> Planner for Quantizer<C> {
    fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError> {
        let choice = Choice::new(self.scheme, self.calibration.clone());
        Ok(candidates.iter().map(|candidate| Decision::by_default(candidate, &choice)).collect())
    }
}
