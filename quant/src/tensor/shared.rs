//! A storage of floats of any shape that can share its memory.

use alloc::vec::Vec;

use super::buffer::Buffer;
use super::error::{TensorError, check_len};

/// Floats of any shape, in memory of their own or in that of a mapped record.
///
/// A `Param<SharedTensor>` that is loaded from a mapped record (feature `mmap`) borrows its values
/// from the file, float or quantized: nothing is read before it is used, and processes that map
/// the same file share the memory. Other storages borrow while they are quantized, and copy their
/// floats.
///
/// ```
/// use quant::tensor::SharedTensor;
/// use quant::Param;
///
/// let tensor = SharedTensor::new(&[2, 2], vec![1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(tensor.as_slice()[3], 4.0);
/// let param = Param::new(tensor);
/// assert_eq!(param.shape(), [2, 2].as_slice());
/// # Ok::<(), quant::tensor::TensorError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SharedTensor {
    shape: Vec<usize>,
    values: Buffer<f32>,
}

impl SharedTensor {
    /// The tensor that owns these values, in row-major order.
    ///
    /// # Errors
    /// The number of values is not the product of the shape.
    pub fn new(shape: &[usize], values: Vec<f32>) -> Result<Self, TensorError> {
        Self::from_buffer(shape, values.into())
    }

    pub(crate) fn from_buffer(shape: &[usize], values: Buffer<f32>) -> Result<Self, TensorError> {
        check_len(shape, values.len())?;
        Ok(Self { shape: shape.into(), values })
    }

    /// The extent of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// Whether the values lie in a mapped record.
    pub fn is_borrowed(&self) -> bool {
        self.values.is_shared()
    }

    /// Shape and values, which are copied if they are borrowed.
    pub fn into_parts(self) -> (Vec<usize>, Vec<f32>) {
        (self.shape, self.values.into_vec())
    }
}
