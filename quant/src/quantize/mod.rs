//! Deciding how each parameter is quantized, and doing it.
//!
//! A planner ([`Quantizer`], [`Recipe`]) looks at a model and makes a [`Plan`]: an outcome and
//! its reason for every parameter. Applying the plan quantizes; whatever could go wrong is found
//! before the first parameter is changed.

mod apply;
mod error;
mod glob;
mod plan;
mod planner;
mod quantizer;
mod recipe;
mod weights;

pub use error::{PlanDifference, QuantizeError, UnmatchedRule};
pub use plan::{Action, Expected, Plan, PlannedParam, Reason};
pub use planner::{Candidate, Decision, Planner};
pub use quantizer::Quantizer;
pub use recipe::{Recipe, Rule};
pub use weights::{WeightError, quantize_values};

pub(crate) use apply::quantize_weights;
pub(crate) use plan::plan;
