//! Tensors in the host's memory, and what a storage must offer to hold a parameter.

mod array;
mod buffer;
mod float;
#[cfg(feature = "ndarray")]
mod ndarray;
mod quantized;
mod shared;

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

pub use float::FloatTensor;
pub use quantized::QuantizedTensor;
pub use shared::SharedTensor;

#[cfg(feature = "mmap")]
pub(crate) use buffer::{Buffer, Bytes, Owner};

use crate::scheme::{LayoutError, QuantizationScheme, ScaleType};

/// A tensor of any rank in the host's memory, float or quantized: what visitors and mappers see.
///
/// ```
/// use quant::Tensor;
///
/// let tensor = Tensor::from_values(&[2, 2], vec![1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(tensor.shape(), [2, 2]);
/// assert!(!tensor.is_quantized());
/// # Ok::<(), quant::TensorError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor(Repr);

/// What a [`Tensor`] is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Repr {
    Float(SharedTensor),
    Quantized(QuantizedTensor),
}

impl Tensor {
    /// The float tensor with these values, in row-major order.
    ///
    /// # Errors
    /// The number of values is not the product of the shape.
    pub fn from_values(shape: &[usize], values: Vec<f32>) -> Result<Self, TensorError> {
        SharedTensor::new(shape, values).map(Self::from)
    }

    /// The float tensor with the shape and values of `tensor`.
    pub fn from_float<T: FloatTensor>(tensor: T) -> Self {
        tensor.into_shared().into()
    }

    /// The extent of each axis.
    pub fn shape(&self) -> &[usize] {
        match &self.0 {
            Repr::Float(tensor) => tensor.shape(),
            Repr::Quantized(tensor) => tensor.shape(),
        }
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// The number of elements.
    pub fn element_count(&self) -> usize {
        // Every tensor's elements were counted when it was made.
        crate::scheme::element_count(self.shape()).unwrap_or(usize::MAX)
    }

    /// Whether the tensor is quantized.
    pub fn is_quantized(&self) -> bool {
        matches!(self.0, Repr::Quantized(_))
    }

    /// The codes and their parameters, if the tensor is quantized.
    pub fn quantized(&self) -> Option<&QuantizedTensor> {
        match &self.0 {
            Repr::Float(_) => None,
            Repr::Quantized(tensor) => Some(tensor),
        }
    }

    /// The values in row-major order: borrowed when float, dequantized when not.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match &self.0 {
            Repr::Float(tensor) => Cow::Borrowed(tensor.as_slice()),
            Repr::Quantized(tensor) => Cow::Owned(tensor.dequantize()),
        }
    }

    /// The values in row-major order, moved out when float.
    pub fn into_values(self) -> Vec<f32> {
        match self.0 {
            Repr::Float(tensor) => FloatTensor::into_values(tensor),
            Repr::Quantized(tensor) => tensor.dequantize(),
        }
    }

    /// The float tensor nearest to what is stored; a float tensor is returned as it is.
    #[must_use]
    pub fn dequantize(self) -> Self {
        match self.0 {
            Repr::Float(_) => self,
            Repr::Quantized(tensor) => SharedTensor::new(tensor.shape(), tensor.dequantize())
                .expect("a quantized tensor has as many codes as its shape says")
                .into(),
        }
    }

    pub(crate) fn into_repr(self) -> Repr {
        self.0
    }
}

impl From<SharedTensor> for Tensor {
    fn from(tensor: SharedTensor) -> Self {
        Self(Repr::Float(tensor))
    }
}

impl From<QuantizedTensor> for Tensor {
    fn from(tensor: QuantizedTensor) -> Self {
        Self(Repr::Quantized(tensor))
    }
}

/// Checks that `shape` has `len` elements.
#[doc(hidden)]
pub fn check_len(shape: &[usize], len: usize) -> Result<(), TensorError> {
    let expected = crate::scheme::element_count(shape)
        .ok_or_else(|| LayoutError::TooManyElements { shape: shape.into() })?;
    if expected == len {
        Ok(())
    } else {
        Err(TensorError::Len { shape: shape.into(), expected, found: len })
    }
}

/// Parts do not make a tensor, or a storage cannot hold one.
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
        /// What the storage can hold, in words: `rank 2`, `[3, 4]`.
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
    /// There are not as many zero points as groups (or none, where the mapping is symmetric).
    ZeroPointCount {
        /// The number expected.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// A zero point is no code of the scheme.
    ZeroPoint {
        /// The group.
        group: usize,
        /// The zero point.
        zero_point: i8,
    },
    /// A storage's own reason.
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
            Self::ZeroPointCount { expected, found } => {
                write!(f, "{expected} zero points are needed, but {found} are given")
            }
            Self::ZeroPoint { group, zero_point } => {
                write!(f, "zero point {group} is {zero_point}, which is no code of the scheme")
            }
            Self::Storage(reason) => f.write_str(reason),
        }
    }
}

impl core::error::Error for TensorError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Layout(error) => Some(error),
            _ => None,
        }
    }
}
