//! The types of float elements.

use alloc::vec::Vec;
use core::fmt;

use crate::scheme::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// The type of the elements of a float tensor.
///
/// All arithmetic is in single precision: elements of the other types are converted when they are
/// used, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FloatType {
    /// IEEE 754 single precision.
    #[default]
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the upper half of a single-precision number.
    Bf16,
}

impl FloatType {
    /// The bytes of one element.
    ///
    /// ```
    /// use quant::tensor::FloatType;
    /// assert_eq!((FloatType::F32.bytes(), FloatType::Bf16.bytes()), (4, 2));
    /// ```
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for FloatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// A float type of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfType {
    F16,
    Bf16,
}

impl HalfType {
    /// The half type that `ty` is; `None` for single precision.
    pub(crate) const fn of(ty: FloatType) -> Option<Self> {
        match ty {
            FloatType::F32 => None,
            FloatType::F16 => Some(Self::F16),
            FloatType::Bf16 => Some(Self::Bf16),
        }
    }

    /// The values of these bits, exactly.
    pub(crate) fn widen(self, bits: &[u16]) -> Vec<f32> {
        match self {
            Self::F16 => bits.iter().map(|&bits| f16_to_f32(bits)).collect(),
            Self::Bf16 => bits.iter().map(|&bits| bf16_to_f32(bits)).collect(),
        }
    }

    /// The bits of the nearest values, ties to even.
    pub(crate) fn narrow(self, values: &[f32]) -> Vec<u16> {
        match self {
            Self::F16 => values.iter().map(|&value| f32_to_f16(value)).collect(),
            Self::Bf16 => values.iter().map(|&value| f32_to_bf16(value)).collect(),
        }
    }
}

impl From<HalfType> for FloatType {
    fn from(half: HalfType) -> Self {
        match half {
            HalfType::F16 => Self::F16,
            HalfType::Bf16 => Self::Bf16,
        }
    }
}
