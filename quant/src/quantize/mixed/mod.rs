//! Mixed precision: the best scheme for each parameter within a budget of bytes.
//!
//! What can become of each parameter is an [`Offer`]: its bytes and its squared error. [`select`]
//! takes one offer for each, so that the sum of errors is the least that fits the budget.
//! [`MixedPrecision`] does both for a model; a program that holds one tensor at a time calls
//! [`offers`] for each and then [`select`].

mod budget;
mod curve;
mod error;
mod moves;
mod offer;
mod planner;
mod precision;
mod search;
mod select;

pub use budget::{Budget, BudgetError};
pub use error::{MixedPrecisionError, SelectError};
pub use offer::{Offer, offers};
pub use planner::{MixedChoice, MixedPlan, MixedPrecision};
pub use precision::{Precision, PrecisionNameError};
pub use select::{Selection, select};
