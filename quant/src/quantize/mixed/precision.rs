//! What may become of a parameter.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use crate::calibration::{CalibrationMethod, CalibrationNameError};
use crate::module::ParamId;
use crate::quantize::recipe::Rule;
use crate::scheme::{NameError, QuantizationScheme};

/// What may become of a parameter: it stays float, or is quantized by a scheme whose ranges a
/// calibration finds.
///
/// ```
/// use quant::quantize::mixed::Precision;
///
/// let precision: Precision = "per-block-symmetric-int4 by mse".parse()?;
/// assert_eq!(precision.to_string(), "per-block-symmetric-int4 by mse");
/// let precision: Precision = "per-channel-symmetric-int8".parse()?;
/// assert_eq!(precision.to_string(), "per-channel-symmetric-int8 by min-max");
/// assert_eq!("float".parse(), Ok(Precision::Float));
/// # Ok::<(), quant::quantize::mixed::PrecisionNameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Precision {
    /// It stays float.
    Float,
    /// It is quantized.
    Quantized {
        /// How.
        scheme: QuantizationScheme,
        /// How ranges are found.
        calibration: CalibrationMethod,
    },
}

impl Precision {
    /// Quantized by this scheme and calibration.
    pub fn new(scheme: QuantizationScheme, calibration: CalibrationMethod) -> Self {
        Self::Quantized { scheme, calibration }
    }

    /// The rule that says this of one parameter.
    pub fn rule(self, id: &ParamId) -> Rule {
        let pattern = Rule::literal(id.as_str());
        match self {
            Self::Float => Rule::keep(pattern),
            Self::Quantized { scheme, calibration } => {
                Rule::quantize(pattern, scheme).calibration(calibration)
            }
        }
    }
}

/// Ranges are found by min-max.
impl From<QuantizationScheme> for Precision {
    fn from(scheme: QuantizationScheme) -> Self {
        Self::new(scheme, CalibrationMethod::default())
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float => f.write_str("float"),
            Self::Quantized { scheme, calibration } => write!(f, "{scheme} by {calibration}"),
        }
    }
}

impl FromStr for Precision {
    type Err = PrecisionNameError;

    /// `float`, `SCHEME` or `SCHEME by CALIBRATION`.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let error = |kind| PrecisionNameError { name: name.into(), kind };
        let (scheme, calibration) = match name.split_once(" by ") {
            Some((scheme, calibration)) => (scheme, calibration.parse()),
            None if name == "float" => return Ok(Self::Float),
            None => (name, Ok(CalibrationMethod::default())),
        };
        let scheme = scheme.parse().map_err(|source| error(Part::Scheme(source)))?;
        let calibration = calibration.map_err(|source| error(Part::Calibration(source)))?;
        Ok(Self::Quantized { scheme, calibration })
    }
}

/// A string is not a precision.
#[derive(Clone, Debug, PartialEq)]
pub struct PrecisionNameError {
    name: String,
    kind: Part,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Scheme(NameError),
    Calibration(CalibrationNameError),
}

impl PrecisionNameError {
    /// The string.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PrecisionNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is neither `float` nor a scheme, ", self.name)?;
        f.write_str("with ` by ` and a calibration if not min-max: ")?;
        match &self.kind {
            Part::Scheme(source) => source.fmt(f),
            Part::Calibration(source) => source.fmt(f),
        }
    }
}

impl core::error::Error for PrecisionNameError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.kind {
            Part::Scheme(source) => Some(source),
            Part::Calibration(source) => Some(source),
        }
    }
}
