//! Why second moments are refused.

use alloc::string::String;
use core::fmt;

use crate::kernel::Kernel;

/// Second moments cannot be made, added to or used.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MomentsError {
    /// A value is NaN or infinite.
    NonFinite {
        /// The value.
        value: f64,
    },
    /// A sum of squares is negative.
    Negative {
        /// The sum.
        value: f64,
    },
    /// The values or sums are of another number.
    Length {
        /// The number that was expected, or a divisor of it.
        expected: usize,
        /// The number of values or sums.
        found: usize,
    },
    /// The number of columns is not that of the other moments, 0, or too large.
    Columns {
        /// The number that was expected, or the greatest one.
        expected: usize,
        /// The number of columns.
        found: usize,
    },
    /// An exponent that no magnitude has.
    Exponent {
        /// The exponent.
        exponent: i32,
    },
    /// Moments of different grids cannot be merged.
    OtherGrid,
    /// More rows than sums are exact for.
    Rows {
        /// The number of rows.
        rows: u64,
    },
    /// Rows cannot be added to moments of which only the diagonal is known.
    DiagonalOnly,
    /// A [source](super::MomentSource) cannot read them.
    Unreadable {
        /// Why, with every reason behind it.
        reason: String,
    },
    /// A [source](super::MomentSource) has other moments than it had before.
    Changed,
}

impl fmt::Display for MomentsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonFinite { value } => write!(f, "second moments of {value}"),
            Self::Negative { value } => write!(f, "the sum of squares {value} is negative"),
            Self::Length { expected, found } => {
                write!(f, "{found} values, where a multiple of {expected} was expected")
            }
            Self::Columns { expected, found } => {
                write!(f, "second moments of {found} columns, where {expected} are possible")
            }
            Self::Exponent { exponent } => {
                write!(f, "second moments cannot have the exponent {exponent}")
            }
            Self::OtherGrid => f.write_str("second moments of different grids cannot be merged"),
            Self::Rows { rows } => {
                write!(f, "{rows} rows, where the sums of {} are exact", Kernel::MOMENT_ROWS)
            }
            Self::DiagonalOnly => f.write_str(
                "rows cannot be added to second moments of which only the diagonal is known",
            ),
            Self::Unreadable { reason } => write!(f, "second moments cannot be read: {reason}"),
            Self::Changed => f.write_str("the second moments have changed since they were opened"),
        }
    }
}

impl core::error::Error for MomentsError {}
