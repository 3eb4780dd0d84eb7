//! What can go wrong before or inside a loop over numbers.

use crate::scheme::{Axis, NonFinite};
use alloc::string::String;
use core::fmt;

/// A kernel that was asked for by name and cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelUnavailable {
    /// No kernel has this name.
    Unknown {
        /// The name that was asked for.
        requested: String,
        /// The names of all kernels.
        known: &'static [&'static str],
    },
    /// The kernel exists, but not on this CPU (or not for this architecture).
    Unsupported {
        /// The name that was asked for.
        requested: &'static str,
        /// The CPU features it needs.
        needs: &'static str,
    },
}

impl fmt::Display for KernelUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { requested, known } => {
                write!(f, "no kernel is called `{requested}`; expected one of {}", known.join(", "))
            }
            Self::Unsupported { requested, needs } => {
                write!(f, "kernel `{requested}` needs {needs}, which this CPU lacks")
            }
        }
    }
}

impl core::error::Error for KernelUnavailable {}

/// Weights that cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// The codes are not those of `n` rows of `k`.
    CodesLength {
        /// Outputs.
        n: usize,
        /// Inputs.
        k: usize,
        /// Bytes given.
        found: usize,
    },
    /// There are more or fewer scales than the granularity demands.
    ScalesLength {
        /// Scales that are needed.
        expected: usize,
        /// Scales given.
        found: usize,
    },
    /// There are zero points, but more or fewer than the granularity demands.
    ZeroPointsLength {
        /// Zero points that are needed.
        expected: usize,
        /// Zero points given.
        found: usize,
    },
    /// Channels are along another axis than the first.
    Axis {
        /// The axis.
        axis: Axis,
    },
    /// A sum over this many products could leave i32.
    TooLong {
        /// Products in a sum: K, or the length of a block.
        k: usize,
        /// The most there may be with these codes and zero points.
        limit: usize,
    },
    /// Groups that do not divide the channels of a convolution.
    Groups {
        /// Groups.
        groups: usize,
        /// Channels.
        channels: usize,
    },
    /// A convolution whose window, stride, dilation or number of channels is 0.
    EmptyKernel,
    /// A convolution whose weights are quantized in blocks.
    BlockedConv,
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CodesLength { n, k, found } => {
                write!(f, "{found} bytes are not the codes of {n} rows of {k}")
            }
            Self::ScalesLength { expected, found } => {
                write!(f, "{found} scales where {expected} are needed")
            }
            Self::ZeroPointsLength { expected, found } => {
                write!(f, "{found} zero points where {expected} are needed")
            }
            Self::Axis { axis } => {
                write!(f, "channels are along axis {}, expected axis 0", axis.index())
            }
            Self::TooLong { k, limit } => {
                write!(f, "a sum of {k} products could overflow i32; at most {limit} cannot")
            }
            Self::Groups { groups, channels } => {
                write!(f, "{groups} groups do not divide {channels} channels")
            }
            Self::EmptyKernel => {
                f.write_str("a convolution needs channels, a window, a stride and a dilation")
            }
            Self::BlockedConv => {
                f.write_str("a convolution's weights cannot be quantized in blocks")
            }
        }
    }
}

impl core::error::Error for PackError {}

/// A call that cannot be executed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LinearError {
    /// The weights were packed for another kernel.
    OtherKernel {
        /// The kernel the weights were packed for.
        packed_for: &'static str,
        /// The kernel that was called.
        called: &'static str,
    },
    /// A slice does not have the length its shape demands.
    Length {
        /// Which slice.
        of: &'static str,
        /// Elements that are needed.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// An activation is NaN or infinite where its range has to be found, or NaN where the range
    /// is given.
    NonFinite(NonFinite),
    /// Integer sums were asked for, but there is no single one per output: each block along K has
    /// its own, and weight-only execution has none.
    NoSingleAccumulator,
}

impl fmt::Display for LinearError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKernel { packed_for, called } => {
                write!(f, "the weights are packed for kernel `{packed_for}`, not for `{called}`")
            }
            Self::Length { of, expected, found } => {
                write!(f, "{of}: {found} elements where {expected} are needed")
            }
            Self::NonFinite(_) => f.write_str("an activation cannot be quantized"),
            Self::NoSingleAccumulator => f.write_str(
                "outputs have no single integer sum: weights have blocks along k, or are the only \
                 thing that is quantized",
            ),
        }
    }
}

impl core::error::Error for LinearError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NonFinite(error) => Some(error),
            _ => None,
        }
    }
}

impl From<NonFinite> for LinearError {
    fn from(error: NonFinite) -> Self {
        Self::NonFinite(error)
    }
}

/// A convolution that cannot be executed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConvError {
    /// The window does not fit into the padded image.
    KernelTooLarge {
        /// Height and width of the image.
        size: [usize; 2],
    },
    /// The image is so large, with its padding, that no memory holds it.
    TooLarge {
        /// Height and width of the image.
        size: [usize; 2],
    },
    /// An error that linear products have, too.
    Linear(LinearError),
}

impl fmt::Display for ConvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelTooLarge { size: [height, width] } => {
                write!(f, "the window does not fit into an image of {height} × {width}")
            }
            Self::TooLarge { size: [height, width] } => {
                write!(
                    f,
                    "an image of {height} × {width} with its padding does not fit into memory"
                )
            }
            Self::Linear(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ConvError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::KernelTooLarge { .. } | Self::TooLarge { .. } => None,
            Self::Linear(error) => error.source(),
        }
    }
}

impl From<LinearError> for ConvError {
    fn from(error: LinearError) -> Self {
        Self::Linear(error)
    }
}

/// A lookup that cannot be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupError {
    /// A slice does not have the length its shape demands.
    Length {
        /// Which slice.
        of: &'static str,
        /// Elements that are needed.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// Channels are along another axis than the first.
    Axis {
        /// The axis.
        axis: Axis,
    },
    /// The table has no such row.
    UnknownRow {
        /// Where among the ids it stands.
        position: usize,
        /// The id.
        id: u32,
        /// Rows of the table.
        rows: usize,
    },
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { of, expected, found } => {
                write!(f, "{of}: {found} elements where {expected} are needed")
            }
            Self::Axis { axis } => {
                write!(f, "channels are along axis {}, expected axis 0", axis.index())
            }
            Self::UnknownRow { position, id, rows } => {
                write!(f, "id {id} at position {position} is not one of {rows} rows")
            }
        }
    }
}

impl core::error::Error for LookupError {}
