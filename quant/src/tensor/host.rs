//! The tensor that visitors and mappers see.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::error::TensorError;
use super::float::FloatTensor;
use super::float_type::FloatType;
use super::quantized::QuantizedTensor;
use super::shared::SharedTensor;

/// A tensor of any rank in the host's memory, float or quantized: what visitors and mappers see.
///
/// ```
/// use quant::Tensor;
///
/// let tensor = Tensor::from_values(&[2, 2], vec![1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(tensor.shape(), [2, 2]);
/// assert!(!tensor.is_quantized());
/// # Ok::<(), quant::tensor::TensorError>(())
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
    /// The float tensor with these values in single precision, in row-major order.
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

    /// The type of the elements, or `None` if the tensor is quantized.
    pub fn float_type(&self) -> Option<FloatType> {
        match &self.0 {
            Repr::Float(tensor) => Some(tensor.float_type()),
            Repr::Quantized(_) => None,
        }
    }

    /// The bits of the elements in row-major order, if the tensor is float in half precision.
    pub fn half_bits(&self) -> Option<&[u16]> {
        match &self.0 {
            Repr::Float(tensor) => tensor.half_bits(),
            Repr::Quantized(_) => None,
        }
    }

    /// The values in row-major order: borrowed when float in single precision, otherwise converted
    /// or dequantized.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match &self.0 {
            Repr::Float(tensor) => tensor.values(),
            Repr::Quantized(tensor) => Cow::Owned(tensor.dequantize()),
        }
    }

    /// The values in row-major order, moved out when float in single precision.
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
