//! Why a function of floats refuses its input.

use core::fmt;

/// A function of floats cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FloatError {
    /// A slice does not have the length that the shape requires.
    Length {
        /// The name of the slice.
        of: &'static str,
        /// The required number of elements.
        expected: usize,
        /// The number of elements given.
        found: usize,
    },
    /// A slice does not consist of whole rows.
    Rows {
        /// The number of elements given.
        len: usize,
        /// The number of elements of a row.
        row: usize,
    },
    /// Angles are those of other embeddings.
    OtherAngles {
        /// The rotated pairs of a head.
        expected: usize,
        /// The angles of a token.
        found: usize,
    },
}

impl fmt::Display for FloatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { of, expected, found } => {
                write!(f, "{of}: found {found} elements, expected {expected}")
            }
            Self::Rows { len, row } => {
                write!(f, "{len} elements are not whole rows of {row}")
            }
            Self::OtherAngles { expected, found } => {
                write!(f, "there are {found} angles for each token, expected {expected}")
            }
        }
    }
}

impl core::error::Error for FloatError {}

/// `Ok` if a slice has the length that the shape requires.
pub(crate) fn length(of: &'static str, expected: usize, found: usize) -> Result<(), FloatError> {
    if expected == found { Ok(()) } else { Err(FloatError::Length { of, expected, found }) }
}

/// `Ok` if a slice of `len` elements consists of whole rows.
pub(crate) fn rows(len: usize, row: usize) -> Result<(), FloatError> {
    if len.is_multiple_of(row) { Ok(()) } else { Err(FloatError::Rows { len, row }) }
}

/// Rotary embeddings cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeError {
    /// The rotated dimensions are not a positive even number that is at most the size of a head.
    Dimensions {
        /// The number of rotated dimensions.
        rotary_dim: usize,
        /// The number of dimensions of a head.
        head_dim: usize,
    },
    /// A parameter of the frequencies is outside of its range.
    Parameter {
        /// The name of the parameter.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The number of divisors is not that of the rotated pairs.
    Divisors {
        /// The number of pairs.
        expected: usize,
        /// The number of divisors given.
        found: usize,
    },
    /// A frequency is not between 0 and 1.
    Frequency {
        /// The index of the rotated pair.
        pair: usize,
        /// The frequency.
        frequency: f64,
    },
    /// A position is too large for exact angles.
    Position {
        /// The index among the positions.
        index: usize,
        /// The position.
        position: u32,
        /// The number of positions.
        limit: u32,
    },
}

impl fmt::Display for RopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dimensions { rotary_dim, head_dim } => {
                write!(f, "{rotary_dim} of {head_dim} dimensions of a head cannot be rotated")
            }
            Self::Parameter { name, value } => {
                write!(f, "{name} is {value}, which is outside of its range")
            }
            Self::Divisors { expected, found } => {
                write!(f, "there are {found} divisors of frequencies, expected {expected}")
            }
            Self::Frequency { pair, frequency } => {
                write!(f, "the frequency of pair {pair} is {frequency}, not between 0 and 1")
            }
            Self::Position { index, position, limit } => {
                write!(f, "position {position} at index {index} is not below {limit}")
            }
        }
    }
}

impl core::error::Error for RopeError {}
