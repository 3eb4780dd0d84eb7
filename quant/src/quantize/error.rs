//! Why a model cannot be quantized as asked.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::weights::WeightError;
use crate::module::ParamId;
use crate::scheme::QuantizationScheme;

/// A model cannot be quantized as asked; it has not been changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum QuantizeError {
    /// A parameter cannot be quantized by the scheme chosen for it.
    Param {
        /// The path of the parameter.
        id: ParamId,
        /// The scheme.
        scheme: QuantizationScheme,
        /// Why the scheme does not work.
        source: WeightError,
    },
    /// A walk shows one path twice.
    DuplicatePath {
        /// The path.
        id: ParamId,
    },
    /// Rules of a recipe that match no path, or only paths that earlier rules match: all of them.
    Rules(Vec<UnmatchedRule>),
    /// The plan was made for another model: all differences.
    PlanMismatch(Vec<PlanDifference>),
    /// A plan that was read from a file names a calibration that is not one of this crate.
    UnknownCalibration {
        /// The path of the parameter.
        id: ParamId,
        /// The calibration's name.
        name: String,
    },
    /// Inputs are to be static, and there are no batches to calibrate them with: all of them.
    Uncalibrated(Vec<ParamId>),
    /// The walks of the model show different paths: a `Walk` that was written by hand is wrong.
    InconsistentWalk {
        /// A path that only one of the walks shows.
        id: ParamId,
    },
    /// A planner did not decide about every parameter.
    Undecided {
        /// The number of candidates.
        expected: usize,
        /// The number of decisions.
        found: usize,
    },
}

/// A rule of a recipe that has no effect. Rules are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnmatchedRule {
    /// No path matches.
    NoMatch {
        /// The rule's position.
        rule: usize,
        /// Its pattern.
        pattern: String,
        /// The paths most similar to the pattern, the most similar first.
        nearest: Vec<String>,
    },
    /// Earlier rules match every path that this rule matches.
    Shadowed {
        /// The rule's position.
        rule: usize,
        /// Its pattern.
        pattern: String,
        /// The position of the first such rule.
        by: usize,
        /// That rule's pattern.
        by_pattern: String,
    },
}

/// How a plan and a model differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanDifference {
    /// The plan has a parameter that the model does not have.
    Missing {
        /// The path of the parameter.
        id: ParamId,
    },
    /// The model has a parameter that the plan does not have.
    Unplanned {
        /// The path of the parameter.
        id: ParamId,
    },
    /// The parameter has different shapes in plan and model.
    Shape {
        /// The path of the parameter.
        id: ParamId,
        /// The shape in the plan.
        planned: Vec<usize>,
        /// The shape in the model.
        found: Vec<usize>,
    },
    /// The parameter is quantized in one and float in the other.
    Type {
        /// The path of the parameter.
        id: ParamId,
    },
}

impl fmt::Display for QuantizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Param { id, scheme, .. } => {
                write!(f, "{id}: cannot be quantized {scheme}")
            }
            Self::DuplicatePath { id } => write!(f, "{id}: the walk shows this path twice"),
            Self::Rules(rules) => list(f, "rules without effect", rules),
            Self::PlanMismatch(differences) => {
                list(f, "the plan was made for another model", differences)
            }
            Self::UnknownCalibration { id, name } => {
                write!(f, "{id}: the plan names `{name}`, which is not a calibration of this crate")
            }
            Self::Uncalibrated(ids) => {
                for (i, id) in ids.iter().enumerate() {
                    write!(f, "{}{id}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(": static inputs need calibration data; call `quantize_with`")
            }
            Self::InconsistentWalk { id } => {
                write!(f, "{id}: `walk` and `walk_mut` of the model show different paths")
            }
            Self::Undecided { expected, found } => {
                write!(f, "the planner made {found} decisions for {expected} parameters")
            }
        }
    }
}

/// `title: first; second; …`
fn list(f: &mut fmt::Formatter<'_>, title: &str, items: &[impl fmt::Display]) -> fmt::Result {
    write!(f, "{title}: ")?;
    for (i, item) in items.iter().enumerate() {
        let separator = if i == 0 { "" } else { "; " };
        write!(f, "{separator}{item}")?;
    }
    Ok(())
}

impl fmt::Display for UnmatchedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMatch { rule, pattern, nearest } => {
                write!(f, "rule {rule} `{pattern}` matches no parameter")?;
                if !nearest.is_empty() {
                    write!(f, " (nearest: {})", nearest.join(", "))?;
                }
                Ok(())
            }
            Self::Shadowed { rule, pattern, by, by_pattern } => write!(
                f,
                "rule {rule} `{pattern}` has no effect: rule {by} `{by_pattern}` matches the same paths first"
            ),
        }
    }
}

impl fmt::Display for PlanDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { id } => write!(f, "{id} is not in the model"),
            Self::Unplanned { id } => write!(f, "{id} is not in the plan"),
            Self::Shape { id, planned, found } => {
                write!(f, "{id} has shape {found:?}, but the plan has {planned:?}")
            }
            Self::Type { id } => write!(f, "{id} is quantized in one and float in the other"),
        }
    }
}

impl core::error::Error for QuantizeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Param { source, .. } => Some(source),
            _ => None,
        }
    }
}
