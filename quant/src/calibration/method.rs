//! Calibrations by name, for recipes and plans.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    AnyObserver, Calibration, EntropyCalibration, GptqCalibration, Histogram, HqqCalibration,
    LeastSquaresCalibration, MinMaxCalibration, MovingAverageCalibration, MseCalibration,
    PercentileCalibration, WeightMethod, WeightedMseCalibration,
};
use crate::scheme::{Grid, NonFinite, Range};

/// One of the calibrations of this crate, chosen by name at run time.
///
/// ```
/// use quant::calibration::{CalibrationMethod, MseCalibration, PercentileCalibration};
///
/// assert_eq!("mse".parse(), Ok(CalibrationMethod::Mse(MseCalibration {})));
/// let percentile = PercentileCalibration::new(99.5).unwrap();
/// assert_eq!("percentile:99.5".parse(), Ok(CalibrationMethod::Percentile(percentile)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CalibrationMethod {
    /// `min-max`
    MinMax(MinMaxCalibration),
    /// `moving-average`, or `moving-average:0.1` with its constant
    MovingAverage(MovingAverageCalibration),
    /// `percentile`, or `percentile:99.9` with its percentile
    Percentile(PercentileCalibration),
    /// `mse`
    Mse(MseCalibration),
    /// `entropy`
    Entropy(EntropyCalibration),
    /// `least-squares`
    LeastSquares(LeastSquaresCalibration),
    /// `weighted-mse`
    WeightedMse(WeightedMseCalibration),
    /// `hqq`
    Hqq(HqqCalibration),
    /// `gptq`, or `gptq:descending`
    Gptq(GptqCalibration),
}

/// What each of the calibrations does.
macro_rules! each {
    ($method:expr, $calibration:ident => $of:expr) => {
        match $method {
            Self::MinMax($calibration) => $of,
            Self::MovingAverage($calibration) => $of,
            Self::Percentile($calibration) => $of,
            Self::Mse($calibration) => $of,
            Self::Entropy($calibration) => $of,
            Self::LeastSquares($calibration) => $of,
            Self::WeightedMse($calibration) => $of,
            Self::Hqq($calibration) => $of,
            Self::Gptq($calibration) => $of,
        }
    };
}

impl Default for CalibrationMethod {
    fn default() -> Self {
        Self::MinMax(MinMaxCalibration {})
    }
}

impl Calibration for CalibrationMethod {
    type Observer = AnyObserver;

    fn name(&self) -> Cow<'static, str> {
        each!(self, calibration => calibration.name())
    }

    fn observer(&self) -> AnyObserver {
        match self {
            Self::MinMax(calibration) => AnyObserver::MinMax(calibration.observer()),
            Self::MovingAverage(calibration) => AnyObserver::MovingAverage(calibration.observer()),
            _ => AnyObserver::Histogram(Histogram::default()),
        }
    }

    /// An observer of another method gives `None`.
    fn range(&self, observer: &AnyObserver, grid: Grid) -> Option<Range> {
        match (self, observer) {
            (Self::MinMax(calibration), AnyObserver::MinMax(seen)) => calibration.range(seen, grid),
            (Self::MovingAverage(calibration), AnyObserver::MovingAverage(seen)) => {
                calibration.range(seen, grid)
            }
            (Self::MinMax(_) | Self::MovingAverage(_), _) => None,
            (Self::Percentile(calibration), AnyObserver::Histogram(seen)) => {
                calibration.range(seen, grid)
            }
            (Self::Entropy(calibration), AnyObserver::Histogram(seen)) => {
                calibration.range(seen, grid)
            }
            (_, AnyObserver::Histogram(seen)) => MseCalibration {}.range(seen, grid),
            _ => None,
        }
    }

    fn finds_minimums(&self) -> bool {
        each!(self, calibration => calibration.finds_minimums())
    }

    fn least_values(&self) -> usize {
        each!(self, calibration => calibration.least_values())
    }

    fn weight_method(&self) -> WeightMethod {
        each!(self, calibration => calibration.weight_method())
    }

    fn weight_range(&self, values: &[f32], grid: Grid) -> Result<Range, NonFinite> {
        each!(self, calibration => calibration.weight_range(values, grid))
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
        let (method, parameter) = match name.split_once(':') {
            Some((method, parameter)) => (method, Some(parameter)),
            None => (name, None),
        };
        let found = match (method, parameter) {
            ("min-max", None) => Some(Self::MinMax(MinMaxCalibration {})),
            ("moving-average", None) => Some(Self::MovingAverage(Default::default())),
            ("moving-average", Some(constant)) => constant
                .parse()
                .ok()
                .and_then(MovingAverageCalibration::new)
                .map(Self::MovingAverage),
            ("percentile", None) => Some(Self::Percentile(Default::default())),
            ("percentile", Some(percentile)) => {
                percentile.parse().ok().and_then(PercentileCalibration::new).map(Self::Percentile)
            }
            ("mse", None) => Some(Self::Mse(MseCalibration {})),
            ("entropy", None) => Some(Self::Entropy(EntropyCalibration {})),
            ("least-squares", None) => Some(Self::LeastSquares(LeastSquaresCalibration {})),
            ("weighted-mse", None) => Some(Self::WeightedMse(WeightedMseCalibration {})),
            ("hqq", None) => Some(Self::Hqq(HqqCalibration {})),
            ("gptq", None) => Some(Self::Gptq(GptqCalibration { descending: false })),
            ("gptq", Some("descending")) => Some(Self::Gptq(GptqCalibration { descending: true })),
            _ => None,
        };
        found.ok_or_else(|| CalibrationNameError { name: name.into() })
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
        write!(f, "`{}` is not a calibration; ", self.name)?;
        f.write_str(match self.name.split_once(':') {
            Some(("percentile", _)) => "a percentile is greater than 0 and at most 100",
            Some(("moving-average", _)) => {
                "the constant of a moving average is greater than 0 and at most 1"
            }
            _ => {
                "expected min-max, moving-average, moving-average:CONSTANT, percentile, \
                 percentile:PERCENT, mse, entropy, least-squares, weighted-mse, hqq, gptq or \
                 gptq:descending"
            }
        })
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
