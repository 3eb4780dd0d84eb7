//! Deciding how each parameter is quantized, and doing it.
//!
//! A planner ([`Quantizer`](crate::Quantizer), [`Recipe`](crate::Recipe)) looks at a model and makes a [`Plan`](crate::Plan): an outcome and
//! its reason for every parameter. Applying the plan quantizes; whatever can go wrong is found
//! before the first parameter is changed. This room imports `activation`, `calibration` and
//! `module`. Start reading in `planner.rs`, then `plan.rs`.

#[cfg(feature = "std")]
mod activations;
#[cfg(feature = "std")]
mod apply;
#[cfg(feature = "std")]
mod byte_size;
#[cfg(feature = "std")]
mod calibrated;
#[cfg(feature = "std")]
mod decide;
#[cfg(feature = "std")]
pub(crate) mod error;
#[cfg(feature = "std")]
mod experts;
mod few_bits;
#[cfg(feature = "std")]
mod fit;
#[cfg(feature = "std")]
mod glob;
#[cfg(feature = "std")]
mod gptq;
#[cfg(feature = "std")]
mod measure;
#[cfg(feature = "std")]
pub mod mixed;
#[cfg(feature = "std")]
mod outcome;
#[cfg(feature = "std")]
mod outputs;
#[cfg(feature = "std")]
mod part;
#[cfg(feature = "std")]
pub(crate) mod plan;
#[cfg(feature = "std")]
mod planner;
#[cfg(feature = "std")]
mod preset;
#[cfg(feature = "std")]
pub(crate) mod quantizer;
#[cfg(feature = "std")]
pub(crate) mod recipe;
#[cfg(feature = "std")]
mod requantize;
#[cfg(feature = "std")]
mod sensitivity;
#[cfg(feature = "std")]
mod spread;
mod weights;

#[cfg(feature = "std")]
pub use self::{
    activations::CalibrateError,
    byte_size::{ByteSize, ByteSizeError},
    error::{PlanDifference, UnmatchedRule},
    outcome::{Action, Expected, PlannedActivation, PlannedKeyValues, Reason, Role, Warning},
    plan::PlannedParam,
    planner::{Candidate, Decision, Planner},
    preset::{Preset, UnknownPreset},
    requantize::requantize,
    sensitivity::{LayerSensitivity, Sensitivity, SensitivityError},
};
pub use weights::{WeightError, quantize_values};

#[cfg(feature = "std")]
#[doc(hidden)]
pub use self::{activations::prepare, decide::choices, planner::Choice};
#[doc(hidden)]
pub use weights::{WeightRange, check_calibration, check_values, params};

#[cfg(feature = "std")]
pub(crate) use self::error::QuantizeError;
#[cfg(feature = "std")]
pub(crate) use self::{
    activations::{calibrate, quantize, quantize_with},
    apply::quantize_weights,
};

/// For other crates that quantize tensor by tensor; see [`__private`](crate::__private).
#[cfg(feature = "std")]
pub(crate) mod hooks {
    pub use super::decide::{Decided, decide_all};
    pub use super::experts::is_stacked as is_stacked_experts;
    pub use super::glob::matches as glob_matches;
    pub use super::measure::Effect;
    pub use super::part::non_finite_values;
    pub use super::plan::quantize_one;
}
