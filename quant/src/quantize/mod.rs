//! Deciding how each parameter is quantized, and doing it.
//!
//! A planner ([`Quantizer`], [`Recipe`]) looks at a model and makes a [`Plan`]: an outcome and
//! its reason for every parameter. Applying the plan quantizes; whatever could go wrong is found
//! before the first parameter is changed.

#[cfg(feature = "std")]
mod apply;
#[cfg(feature = "std")]
mod decide;
#[cfg(feature = "std")]
mod error;
#[cfg(feature = "std")]
mod glob;
#[cfg(feature = "std")]
mod measure;
#[cfg(feature = "std")]
pub mod mixed;
#[cfg(feature = "std")]
mod plan;
#[cfg(feature = "std")]
mod planner;
#[cfg(feature = "std")]
mod quantizer;
#[cfg(feature = "std")]
mod recipe;
#[cfg(feature = "std")]
mod sensitivity;
#[cfg(feature = "std")]
mod table;
mod weights;

#[cfg(feature = "std")]
pub use error::{PlanDifference, QuantizeError, UnmatchedRule};
#[cfg(feature = "std")]
pub use plan::{Action, Expected, Plan, PlannedActivation, PlannedParam, Reason};
#[cfg(feature = "std")]
pub use planner::{Candidate, Decision, Planner};
#[cfg(feature = "std")]
pub use quantizer::Quantizer;
#[cfg(feature = "std")]
pub use recipe::{Recipe, Rule};
#[cfg(feature = "std")]
pub use sensitivity::{LayerSensitivity, Sensitivity, SensitivityError};
pub use weights::{WeightError, quantize_values};

#[cfg(feature = "candle")]
pub(crate) use decide::choices;
#[cfg(feature = "candle")]
pub(crate) use planner::Choice;
#[cfg(feature = "candle")]
pub(crate) use weights::{WeightRange, params};

#[cfg(feature = "std")]
pub(crate) use apply::quantize_weights;
#[cfg(feature = "std")]
pub(crate) use plan::plan;

/// For other crates that quantize tensor by tensor; see [`__private`](crate::__private).
#[cfg(feature = "std")]
pub(crate) mod hooks {
    pub use super::decide::{Decided, decide_all};
    pub use super::plan::{plan_one, quantize_one};
}
