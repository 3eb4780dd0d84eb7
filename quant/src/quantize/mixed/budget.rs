//! The bytes that the parameters of a model may take.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use crate::quantize::ByteSize;

/// The most bytes that the parameters of a model may take: a number, or a share of what they
/// take now.
///
/// Codes, scales, zero points and float parameters count. A record adds its header and the padding
/// between its sections.
///
/// ```
/// use quant::quantize::mixed::Budget;
///
/// assert_eq!("45%".parse(), Ok(Budget::fraction(0.45).unwrap()));
/// assert_eq!("24MB".parse(), Ok(Budget::bytes(24_000_000)));
/// assert_eq!("1.5 MiB".parse(), Ok(Budget::bytes(1_572_864)));
/// assert_eq!(Budget::fraction(0.45).unwrap().of(2_000), 900);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget(Amount);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Bytes(u64),
    /// In percent, above 0.
    Percent(f64),
}

impl Budget {
    /// So many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(Amount::Bytes(bytes))
    }

    /// This share of the bytes now, or `None` if it is not above 0 and at most 1.
    pub fn fraction(fraction: f64) -> Option<Self> {
        Self::percent(fraction * 100.0)
    }

    fn percent(percent: f64) -> Option<Self> {
        (percent > 0.0 && percent <= 100.0).then_some(Self(Amount::Percent(percent)))
    }

    /// The bytes of the budget for parameters that take `now` bytes; a share is rounded to the
    /// nearest.
    pub fn of(self, now: u64) -> u64 {
        match self.0 {
            Amount::Bytes(bytes) => bytes,
            Amount::Percent(percent) => (now as f64 * percent / 100.0).round() as u64,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Amount::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Amount::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Budget {
    type Err = BudgetError;

    /// A share, `45%`, or a [`ByteSize`], `1000000`, `24MB`, `1.5 GiB`.
    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let unknown = || BudgetError::Unknown { text: text.into() };
        match text.trim().strip_suffix('%') {
            Some(number) => {
                let percent = number.trim_end().parse().map_err(|_| unknown())?;
                Self::percent(percent).ok_or(BudgetError::Percent { percent })
            }
            None => {
                let ByteSize(bytes) = text.parse().map_err(|_| unknown())?;
                Ok(Self::bytes(bytes))
            }
        }
    }
}

/// A string is not a budget.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum BudgetError {
    /// It is neither a share nor a number of bytes.
    Unknown {
        /// The string.
        text: String,
    },
    /// A share that is not above 0 % and at most 100 %.
    Percent {
        /// The share.
        percent: f64,
    },
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { text } => write!(
                f,
                "`{text}` is not a budget, which is a share, `45%`, or bytes, `1000000`, `24MB`, \
                 `1.5GiB`"
            ),
            Self::Percent { percent } => {
                write!(f, "a budget of {percent}% is not above 0% and at most 100%")
            }
        }
    }
}

impl core::error::Error for BudgetError {}
