//! The versions of the format.

use core::fmt;

use crate::scheme::{QuantizationType, packing};

/// A version of the record format.
///
/// Version 2 adds floats of half precision, and stores codes of 3, 5, 6 and 7 bits densely. A
/// record that needs neither is written as version 1, which older versions of this library read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordVersion {
    /// Floats in single precision, and codes in 8, 4 or 2 bits.
    V1,
    /// Half precision, and dense codes.
    V2,
}

impl RecordVersion {
    /// The newest version, which this library writes where it is needed.
    pub const NEWEST: Self = Self::V2;

    /// The number in the prelude of a record.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Whether codes of this type are stored in another form than they have in memory: without the
    /// bits that they do not need.
    pub(crate) const fn is_dense(self, ty: QuantizationType) -> bool {
        match self {
            Self::V1 => false,
            Self::V2 => packing::is_dense_narrower(ty),
        }
    }

    /// The version with this number, if this library reads it.
    pub(crate) const fn of_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

impl fmt::Display for RecordVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}
