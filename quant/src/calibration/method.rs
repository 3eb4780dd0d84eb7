//! Calibrations by name, for recipes and plans.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Calibration, MinMaxCalibration, MinMaxObserver, MseCalibration};
use crate::scheme::{Grid, NonFinite, Range};

/// One of the calibrations of this crate, chosen by name at run time.
///
/// ```
/// use quant::{CalibrationMethod, MseCalibration};
/// let method: CalibrationMethod = "mse".parse()?;
/// assert_eq!(method, CalibrationMethod::Mse(MseCalibration {}));
/// # Ok::<(), quant::CalibrationNameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CalibrationMethod {
    /// `min-max`
    MinMax(MinMaxCalibration),
    /// `mse`
    Mse(MseCalibration),
}

impl Default for CalibrationMethod {
    fn default() -> Self {
        Self::MinMax(MinMaxCalibration {})
    }
}

impl Calibration for CalibrationMethod {
    type Observer = MinMaxObserver;

    fn name(&self) -> Cow<'static, str> {
        match self {
            Self::MinMax(calibration) => calibration.name(),
            Self::Mse(calibration) => calibration.name(),
        }
    }

    fn observer(&self) -> MinMaxObserver {
        match self {
            Self::MinMax(calibration) => calibration.observer(),
            Self::Mse(calibration) => calibration.observer(),
        }
    }

    fn range(&self, observer: &MinMaxObserver, grid: Grid) -> Option<Range> {
        match self {
            Self::MinMax(calibration) => calibration.range(observer, grid),
            Self::Mse(calibration) => calibration.range(observer, grid),
        }
    }

    fn weight_range(&self, values: &[f32], grid: Grid) -> Result<Range, NonFinite> {
        match self {
            Self::MinMax(calibration) => calibration.weight_range(values, grid),
            Self::Mse(calibration) => calibration.weight_range(values, grid),
        }
    }
}

impl fmt::Display for CalibrationMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl FromStr for CalibrationMethod {
    type Err = CalibrationNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "min-max" => Ok(Self::MinMax(MinMaxCalibration {})),
            "mse" => Ok(Self::Mse(MseCalibration {})),
            _ => Err(CalibrationNameError { name: name.into() }),
        }
    }
}

/// A string is not the name of a calibration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CalibrationNameError {
    /// The string.
    pub name: String,
}

impl fmt::Display for CalibrationNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a calibration; there are min-max and mse", self.name)
    }
}

impl core::error::Error for CalibrationNameError {}

impl Serialize for CalibrationMethod {
    /// Serializes as the name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CalibrationMethod {
    /// Deserializes from the name.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|e: CalibrationNameError| de::Error::custom(e.to_string()))
    }
}
