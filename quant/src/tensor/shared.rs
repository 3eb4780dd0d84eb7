//! A storage of floats of any shape that can share its memory.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::buffer::Buffer;
use super::error::{TensorError, check_len};
use super::float_type::{FloatType, HalfType};

/// Floats of any shape, in memory of their own or in that of a mapped record.
///
/// A `Param<SharedTensor>` that is loaded from a mapped record (feature `mmap`) borrows its values
/// from the file, float or quantized: nothing is read before it is used, and processes that map
/// the same file share the memory. Other storages borrow while they are quantized, and copy their
/// floats.
///
/// Elements of half precision stay what they are; their values are converted when they are used.
///
/// ```
/// use quant::tensor::{FloatType, SharedTensor};
/// use quant::Param;
///
/// let tensor = SharedTensor::new(&[2, 2], vec![1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(tensor.as_slice().unwrap()[3], 4.0);
/// let param = Param::new(tensor);
/// assert_eq!(param.shape(), [2, 2].as_slice());
///
/// let half = SharedTensor::from_half_bits(&[2], FloatType::Bf16, vec![0x3F80, 0xC000])?;
/// assert_eq!(*half.values(), [1.0, -2.0]);
/// # Ok::<(), quant::tensor::TensorError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SharedTensor {
    shape: Vec<usize>,
    elements: Elements,
}

#[derive(Clone, Debug)]
enum Elements {
    Single(Buffer<f32>),
    Half(HalfType, Buffer<u16>),
}

impl SharedTensor {
    /// The tensor that owns these values in single precision, in row-major order.
    ///
    /// # Errors
    /// The number of values is not the product of the shape.
    pub fn new(shape: &[usize], values: Vec<f32>) -> Result<Self, TensorError> {
        Self::from_buffer(shape, values.into())
    }

    /// The tensor that owns these elements of half precision, in row-major order.
    ///
    /// # Errors
    /// The number of elements is not the product of the shape, or `ty` does not have 16 bits.
    pub fn from_half_bits(
        shape: &[usize],
        ty: FloatType,
        bits: Vec<u16>,
    ) -> Result<Self, TensorError> {
        match HalfType::of(ty) {
            Some(half) => Self::from_bits(shape, half, bits.into()),
            None => Err(TensorError::Storage(alloc::format!("{ty} does not have 16 bits"))),
        }
    }

    pub(crate) fn from_buffer(shape: &[usize], values: Buffer<f32>) -> Result<Self, TensorError> {
        check_len(shape, values.len())?;
        Ok(Self { shape: shape.into(), elements: Elements::Single(values) })
    }

    pub(crate) fn from_bits(
        shape: &[usize],
        half: HalfType,
        bits: Buffer<u16>,
    ) -> Result<Self, TensorError> {
        check_len(shape, bits.len())?;
        Ok(Self { shape: shape.into(), elements: Elements::Half(half, bits) })
    }

    /// The extent of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of the elements.
    pub fn float_type(&self) -> FloatType {
        match self.elements {
            Elements::Single(_) => FloatType::F32,
            Elements::Half(half, _) => half.into(),
        }
    }

    /// The values in row-major order: borrowed in single precision, converted from half precision.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match &self.elements {
            Elements::Single(values) => Cow::Borrowed(values),
            Elements::Half(half, bits) => Cow::Owned(half.widen(bits)),
        }
    }

    /// The values in row-major order, or `None` in half precision.
    pub fn as_slice(&self) -> Option<&[f32]> {
        match &self.elements {
            Elements::Single(values) => Some(values),
            Elements::Half(..) => None,
        }
    }

    /// The bits of the elements in row-major order, or `None` in single precision.
    pub fn half_bits(&self) -> Option<&[u16]> {
        match &self.elements {
            Elements::Single(_) => None,
            Elements::Half(_, bits) => Some(bits),
        }
    }

    /// Whether the values lie in a mapped record.
    pub fn is_borrowed(&self) -> bool {
        match &self.elements {
            Elements::Single(values) => values.is_shared(),
            Elements::Half(_, bits) => bits.is_shared(),
        }
    }

    /// Shape and values, which are moved out if they are owned and in single precision.
    pub fn into_parts(self) -> (Vec<usize>, Vec<f32>) {
        let values = match self.elements {
            Elements::Single(values) => values.into_vec(),
            Elements::Half(half, bits) => half.widen(&bits),
        };
        (self.shape, values)
    }
}

/// Equal when type, shape and values are equal.
impl PartialEq for SharedTensor {
    fn eq(&self, other: &Self) -> bool {
        self.float_type() == other.float_type()
            && self.shape == other.shape
            && self.values() == other.values()
    }
}
