//! A range that follows the batches slowly.

use alloc::borrow::Cow;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::{Calibration, Observer};
use crate::kernel::Kernel;
use crate::scheme::{Grid, NonFinite, Range};

/// The moving average of each batch's minimum and maximum.
///
/// The first batch sets both. Each later batch moves them, in f32: `lo += c · (min - lo)` and
/// `hi += c · (max - hi)`; in f64, rounded once, where the difference leaves f32.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "f32", into = "f32"))]
pub struct MovingAverageCalibration {
    constant: f32,
}

impl MovingAverageCalibration {
    /// The calibration with this constant, or `None` unless `0 < c <= 1`.
    pub fn new(constant: f32) -> Option<Self> {
        (constant > 0.0 && constant <= 1.0).then_some(Self { constant })
    }

    /// The weight `c` of a new batch.
    pub fn constant(self) -> f32 {
        self.constant
    }
}

/// `c` = 0.01.
impl Default for MovingAverageCalibration {
    fn default() -> Self {
        Self { constant: 0.01 }
    }
}

impl TryFrom<f32> for MovingAverageCalibration {
    type Error = &'static str;

    fn try_from(constant: f32) -> Result<Self, Self::Error> {
        Self::new(constant).ok_or("the constant of a moving average is above 0 and at most 1")
    }
}

impl From<MovingAverageCalibration> for f32 {
    fn from(calibration: MovingAverageCalibration) -> Self {
        calibration.constant
    }
}

impl Calibration for MovingAverageCalibration {
    type Observer = MovingAverageObserver;

    fn name(&self) -> Cow<'static, str> {
        if *self == Self::default() {
            "moving-average".into()
        } else {
            alloc::format!("moving-average:{}", self.constant).into()
        }
    }

    fn observer(&self) -> MovingAverageObserver {
        MovingAverageObserver { constant: self.constant, batches: 0, lo: 0.0, hi: 0.0 }
    }

    fn range(&self, observer: &MovingAverageObserver, _grid: Grid) -> Option<Range> {
        observer.range()
    }
}

/// The averages so far. They depend on the order of the batches, and on where batches end.
///
/// Averages that are not finite, and constants that are not above 0 and at most 1, are not deserialized.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "SavedAverages"))]
pub struct MovingAverageObserver {
    constant: f32,
    batches: u64,
    lo: f32,
    hi: f32,
}

/// An observer as it is deserialized, before it is checked.
#[cfg(feature = "serde")]
#[derive(Deserialize)]
struct SavedAverages {
    constant: f32,
    batches: u64,
    lo: f32,
    hi: f32,
}

#[cfg(feature = "serde")]
impl TryFrom<SavedAverages> for MovingAverageObserver {
    type Error = &'static str;

    fn try_from(saved: SavedAverages) -> Result<Self, Self::Error> {
        let SavedAverages { constant, batches, lo, hi } = saved;
        let constant = MovingAverageCalibration::try_from(constant)?.constant;
        if !lo.is_finite() || !hi.is_finite() {
            return Err("the averages of a moving average are not finite");
        }
        Ok(Self { constant, batches, lo, hi })
    }
}

/// `average` moved by `c` towards `value`; both are finite, and so is the result.
fn moved(average: f32, c: f32, value: f32) -> f32 {
    let moved = average + c * (value - average);
    if moved.is_finite() {
        return moved;
    }
    // The difference is beyond f32, as from -3e38 to 3e38. The result lies between the two.
    let (average, value) = (f64::from(average), f64::from(value));
    (average + f64::from(c) * (value - average)) as f32
}

impl MovingAverageObserver {
    /// The averages, widened to hold zero; `None` before the first batch.
    pub fn range(&self) -> Option<Range> {
        if self.batches == 0 { None } else { Range::new(self.lo, self.hi) }
    }

    /// The averages, not widened to hold zero; `None` before the first batch.
    pub fn averages(&self) -> Option<(f32, f32)> {
        (self.batches > 0).then_some((self.lo, self.hi))
    }
}

impl Observer for MovingAverageObserver {
    fn observe(&mut self, values: &[f32]) -> Result<(), NonFinite> {
        if values.is_empty() {
            return Ok(());
        }
        let (lo, hi) = Kernel::current().min_max(values)?;
        if self.batches == 0 {
            (self.lo, self.hi) = (lo, hi);
        } else {
            self.lo = moved(self.lo, self.constant, lo);
            self.hi = moved(self.hi, self.constant, hi);
        }
        self.batches = self.batches.saturating_add(1);
        Ok(())
    }

    /// Weights both averages by their numbers of batches, because the order is unknown.
    fn merge(&mut self, other: &Self) {
        let batches = self.batches.saturating_add(other.batches);
        if batches == 0 {
            return;
        }
        let share = other.batches as f64 / batches as f64;
        let mix = |a: f32, b: f32| (f64::from(a) + share * (f64::from(b) - f64::from(a))) as f32;
        (self.lo, self.hi) = (mix(self.lo, other.lo), mix(self.hi, other.hi));
        self.batches = batches;
    }
}
