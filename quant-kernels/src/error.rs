//! Errors, one enum for each layer: choosing a kernel, packing, linear products, convolution, lookup.
//!
//! Imports `scheme` alone.

use crate::scheme::{Axis, NonFinite};
use alloc::string::String;
use core::fmt;

/// The requested kernel does not exist or does not run on this CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelUnavailable {
    /// There is no kernel with this name.
    Unknown {
        /// The requested name.
        requested: String,
        /// The names of all kernels.
        known: &'static [&'static str],
    },
    /// The kernel needs features that this CPU or architecture does not have.
    Unsupported {
        /// The requested name.
        requested: &'static str,
        /// The CPU features it needs.
        needs: &'static str,
    },
}

impl fmt::Display for KernelUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { requested, known } => {
                write!(f, "there is no kernel `{requested}`; expected one of {}", known.join(", "))
            }
            Self::Unsupported { requested, needs } => {
                write!(f, "kernel `{requested}` needs {needs}, which this CPU does not have")
            }
        }
    }
}

impl core::error::Error for KernelUnavailable {}

/// Weights cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// The number of bytes does not match `n` rows of `k` codes.
    CodesLength {
        /// The number of outputs.
        n: usize,
        /// The number of inputs.
        k: usize,
        /// The number of bytes given.
        found: usize,
    },
    /// The number of scales does not match the granularity.
    ScalesLength {
        /// The required number.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// There are zero points, but their number does not match the granularity.
    ZeroPointsLength {
        /// The required number.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// There are minimums, but their number does not match the granularity.
    MinimumsLength {
        /// The required number.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// Channels are not along axis 0, that of the rows.
    Axis {
        /// The axis given.
        axis: Axis,
    },
    /// A sum of this many products could overflow i32.
    TooLong {
        /// The length of a sum: K, or that of a block.
        k: usize,
        /// The largest length for these codes and zero points.
        limit: usize,
    },
    /// The groups of a convolution do not divide its channels.
    Groups {
        /// The number of groups.
        groups: usize,
        /// The number of input or output channels.
        channels: usize,
    },
    /// The kernel, stride, dilation or number of input channels of a convolution is 0.
    EmptyKernel,
    /// The weights of a convolution are quantized in blocks.
    BlockedConv,
    /// The weights of a convolution have minimums.
    MinimumsOfConv,
    /// The length of the blocks of activations does not divide that of the weights.
    BlockLengths {
        /// The length of the blocks of the weights.
        weights: usize,
        /// The length of the blocks of the activations.
        activations: usize,
    },
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CodesLength { n, k, found } => {
                write!(f, "codes: found {found} bytes for {n} rows of {k}")
            }
            Self::ScalesLength { expected, found } => {
                write!(f, "scales: found {found}, expected {expected}")
            }
            Self::ZeroPointsLength { expected, found } => {
                write!(f, "zero points: found {found}, expected {expected}")
            }
            Self::MinimumsLength { expected, found } => {
                write!(f, "minimums: found {found}, expected {expected}")
            }
            Self::Axis { axis } => {
                write!(f, "channels are along axis {}, expected axis 0", axis.index())
            }
            Self::TooLong { k, limit } => {
                write!(f, "a sum of {k} products could overflow i32; the limit is {limit}")
            }
            Self::Groups { groups, channels } => {
                write!(f, "{groups} groups do not divide {channels} channels")
            }
            Self::EmptyKernel => f.write_str(
                "the kernel, stride, dilation or number of input channels of the convolution is 0",
            ),
            Self::BlockedConv => {
                f.write_str("the weights of a convolution cannot be quantized in blocks")
            }
            Self::MinimumsOfConv => {
                f.write_str("the weights of a convolution cannot have minimums")
            }
            Self::BlockLengths { weights, activations } => write!(
                f,
                "activations in blocks of {activations}, which does not divide the blocks of \
                 {weights} of the weights"
            ),
        }
    }
}

impl core::error::Error for PackError {}

/// A linear product cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LinearError {
    /// The weights are packed for another kernel.
    OtherKernel {
        /// The kernel that the weights are packed for.
        packed_for: &'static str,
        /// The kernel that was called.
        called: &'static str,
    },
    /// A slice does not have the length that the shape requires.
    Length {
        /// The name of the slice.
        of: &'static str,
        /// The required number of elements.
        expected: usize,
        /// The number of elements given.
        found: usize,
    },
    /// An activation is not finite where its range is computed, or is NaN where parameters are given.
    NonFinite(NonFinite),
    /// Accumulators were requested, but an output has one for each block along K, or a minimum beside it, or
    /// none because activations are floats.
    NoSingleAccumulator,
    /// The length of the blocks of activations does not divide that of the weights.
    BlockLengths {
        /// The length of the blocks of the weights.
        weights: usize,
        /// The length of the blocks of the activations.
        activations: usize,
    },
    /// The weights are not packed for activations in blocks of this length; see
    /// [`PackedWeights::for_dynamic`](crate::PackedWeights::for_dynamic).
    OtherBlocks {
        /// The length that the weights are packed for, if any.
        packed_for: Option<usize>,
        /// The length of the blocks of the activations.
        activations: usize,
    },
    /// Activations are quantized, and the weights are packed for floats; see
    /// [`PackedWeights::for_floats`](crate::PackedWeights::for_floats).
    PackedForFloats,
    /// Activations have zero points, and the weights are packed for those without; see
    /// [`PackedWeights::for_dynamic`](crate::PackedWeights::for_dynamic).
    ZeroPoints,
    /// The activations of a convolution are quantized in blocks.
    BlockedImages,
}

impl fmt::Display for LinearError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKernel { packed_for, called } => {
                write!(f, "the weights are packed for kernel `{packed_for}`, not for `{called}`")
            }
            Self::Length { of, expected, found } => {
                write!(f, "{of}: found {found} elements, expected {expected}")
            }
            Self::NonFinite(_) => f.write_str("an activation is not finite"),
            Self::NoSingleAccumulator => f.write_str(
                "an output does not have a single accumulator: the weights have blocks along k or \
                 minimums, or activations are floats",
            ),
            Self::BlockLengths { weights, activations } => write!(
                f,
                "activations in blocks of {activations}, which does not divide the blocks of \
                 {weights} of the weights"
            ),
            Self::OtherBlocks { packed_for: Some(len), activations } => write!(
                f,
                "activations in blocks of {activations}, but the weights are packed for blocks of \
                 {len}"
            ),
            Self::OtherBlocks { packed_for: None, activations } => write!(
                f,
                "activations in blocks of {activations}, which the weights are not packed for"
            ),
            Self::PackedForFloats => {
                f.write_str("activations are quantized, but the weights are packed for floats")
            }
            Self::ZeroPoints => f.write_str(
                "activations have zero points, but the weights are packed for activations without",
            ),
            Self::BlockedImages => {
                f.write_str("the input of a convolution cannot be quantized in blocks")
            }
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

/// A convolution cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConvError {
    /// The kernel does not fit into the padded image.
    KernelTooLarge {
        /// Height and width of the image.
        size: [usize; 2],
    },
    /// The size of the padded image, or of the products of a transposed convolution, exceeds the
    /// address space.
    TooLarge {
        /// Height and width of the image.
        size: [usize; 2],
    },
    /// A transposed convolution has no output: the image has no pixels, or the padding is as large
    /// as the output.
    NoOutput {
        /// Height and width of the image.
        size: [usize; 2],
    },
    /// An error of the product.
    Linear(LinearError),
}

impl fmt::Display for ConvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelTooLarge { size: [height, width] } => {
                write!(f, "the kernel does not fit into the padded image of {height} × {width}")
            }
            Self::TooLarge { size: [height, width] } => {
                write!(
                    f,
                    "the size of the padded image of {height} × {width} exceeds the address space"
                )
            }
            Self::NoOutput { size: [height, width] } => {
                write!(f, "the padding leaves no output for an image of {height} × {width}")
            }
            Self::Linear(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ConvError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::KernelTooLarge { .. } | Self::TooLarge { .. } | Self::NoOutput { .. } => None,
            Self::Linear(error) => error.source(),
        }
    }
}

impl From<LinearError> for ConvError {
    fn from(error: LinearError) -> Self {
        Self::Linear(error)
    }
}

/// Rows cannot be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupError {
    /// A slice does not have the length that the shape requires.
    Length {
        /// The name of the slice.
        of: &'static str,
        /// The required number of elements.
        expected: usize,
        /// The number of elements given.
        found: usize,
    },
    /// Channels are not along axis 0, that of the rows.
    Axis {
        /// The axis given.
        axis: Axis,
    },
    /// An id is not less than the number of rows.
    UnknownRow {
        /// The index among the ids.
        position: usize,
        /// The id.
        id: u32,
        /// The number of rows.
        rows: usize,
    },
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { of, expected, found } => {
                write!(f, "{of}: found {found} elements, expected {expected}")
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
