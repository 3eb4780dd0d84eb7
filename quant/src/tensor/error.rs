//! Why a tensor cannot be made or stored.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use crate::scheme::{LayoutError, QuantizationScheme, ScaleType, element_count};

/// Checks that `shape` has `len` elements.
#[doc(hidden)]
pub fn check_len(shape: &[usize], len: usize) -> Result<(), TensorError> {
    let expected =
        element_count(shape).ok_or_else(|| LayoutError::TooManyElements { shape: shape.into() })?;
    if expected == len {
        Ok(())
    } else {
        Err(TensorError::Len { shape: shape.into(), expected, found: len })
    }
}

/// Codes, scales and values do not form a tensor, or a storage cannot hold one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TensorError {
    /// The number of values is not the product of the shape.
    Len {
        /// The shape.
        shape: Vec<usize>,
        /// Its product.
        expected: usize,
        /// The number of values.
        found: usize,
    },
    /// A storage of another rank or extent cannot hold a tensor of this shape.
    Shape {
        /// What the storage can hold: `rank 2`, `[3, 4]`.
        expected: Cow<'static, str>,
        /// The tensor's shape.
        found: Vec<usize>,
    },
    /// A scheme does not fit the shape.
    Layout(LayoutError),
    /// The packed codes take another number of bytes.
    CodeBytes {
        /// The bytes that the shape and scheme ask for.
        expected: usize,
        /// The bytes given.
        found: usize,
    },
    /// A code lies outside of the scheme's range.
    Code {
        /// The first such byte of the packed codes.
        byte: usize,
        /// The scheme.
        scheme: QuantizationScheme,
    },
    /// Bits that pad a row are not zero.
    Padding {
        /// The first such byte of the packed codes.
        byte: usize,
    },
    /// There are not as many scales as groups.
    ScaleCount {
        /// The number of groups.
        expected: usize,
        /// The number of scales.
        found: usize,
    },
    /// A scale is not a positive, normal number of the type it is stored in.
    Scale {
        /// The group.
        group: usize,
        /// The scale.
        scale: f32,
        /// The type it is stored in.
        stored_as: ScaleType,
    },
    /// A scale, which may have either sign, is not a finite number of the type it is stored in.
    SignedScale {
        /// The group.
        group: usize,
        /// The scale.
        scale: f32,
        /// The type it is stored in.
        stored_as: ScaleType,
    },
    /// There are not as many zero points as groups, or some where the mapping has none.
    ZeroPointCount {
        /// The number expected.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// A zero point is not a code of the scheme.
    ZeroPoint {
        /// The group.
        group: usize,
        /// The zero point.
        zero_point: i8,
    },
    /// There are not as many minimums as groups, or some where the mapping has none.
    MinimumCount {
        /// The number expected.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// A minimum is not a finite number of the type it is stored in.
    Minimum {
        /// The group.
        group: usize,
        /// The minimum.
        minimum: f32,
        /// The type it is stored in.
        stored_as: ScaleType,
    },
    /// The storage refused, for this reason.
    Storage(alloc::string::String),
}

impl From<LayoutError> for TensorError {
    fn from(error: LayoutError) -> Self {
        Self::Layout(error)
    }
}

impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Len { shape, expected, found } => {
                write!(f, "shape {shape:?} has {expected} elements, but {found} values are given")
            }
            Self::Shape { expected, found } => {
                write!(f, "a storage of {expected} cannot hold shape {found:?}")
            }
            Self::Layout(error) => error.fmt(f),
            Self::CodeBytes { expected, found } => {
                write!(f, "the codes take {expected} bytes, but {found} are given")
            }
            Self::Code { byte, scheme } => {
                write!(f, "byte {byte} of the codes holds a code outside of {scheme}")
            }
            Self::Padding { byte } => {
                write!(f, "byte {byte} of the codes has padding bits that are not zero")
            }
            Self::ScaleCount { expected, found } => {
                write!(f, "there are {expected} groups, but {found} scales")
            }
            Self::Scale { group, scale, stored_as } => {
                write!(f, "scale {group} is {scale:e}, not a positive normal {stored_as}")
            }
            Self::SignedScale { group, scale, stored_as } => {
                write!(f, "scale {group} is {scale:e}, not a finite {stored_as}")
            }
            Self::ZeroPointCount { expected, found } => {
                write!(f, "{expected} zero points are needed, but {found} are given")
            }
            Self::ZeroPoint { group, zero_point } => {
                write!(f, "zero point {group} is {zero_point}, which is not a code of the scheme")
            }
            Self::MinimumCount { expected, found } => {
                write!(f, "{expected} minimums are needed, but {found} are given")
            }
            Self::Minimum { group, minimum, stored_as } => {
                write!(f, "minimum {group} is {minimum:e}, not a finite {stored_as}")
            }
            Self::Storage(reason) => f.write_str(reason),
        }
    }
}

impl core::error::Error for TensorError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            // The message is that of the error inside, and so is the source.
            Self::Layout(error) => error.source(),
            _ => None,
        }
    }
}
