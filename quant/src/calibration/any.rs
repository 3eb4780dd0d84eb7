//! The observer of a calibration that was chosen at run time.

use serde::{Deserialize, Serialize};

use super::{Histogram, MinMaxObserver, MovingAverageObserver, Observer};
use crate::scheme::NonFinite;

/// One of the observers of this crate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AnyObserver {
    /// Minimum and maximum.
    MinMax(MinMaxObserver),
    /// Their moving averages.
    MovingAverage(MovingAverageObserver),
    /// Counts in bins: for percentile, mean squared error and entropy.
    Histogram(Histogram),
}

impl Observer for AnyObserver {
    fn observe(&mut self, values: &[f32]) -> Result<(), NonFinite> {
        match self {
            Self::MinMax(observer) => observer.observe(values),
            Self::MovingAverage(observer) => observer.observe(values),
            Self::Histogram(observer) => observer.observe(values),
        }
    }

    /// Merges what another observer of the same kind has seen. An observer of another kind belongs to
    /// another calibration and is ignored.
    fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::MinMax(a), Self::MinMax(b)) => a.merge(b),
            (Self::MovingAverage(a), Self::MovingAverage(b)) => a.merge(b),
            (Self::Histogram(a), Self::Histogram(b)) => a.merge(b),
            _ => {}
        }
    }
}
