//! A parameter by reference, whatever its storage.

use alloc::borrow::Cow;
use core::any::Any;

use crate::scheme::element_count;
use crate::tensor::{
    FloatTensor, FloatType, HalfType, QuantizedTensor, SharedTensor, Tensor, TensorError, check_len,
};

/// A parameter by reference, whatever its storage.
#[derive(Clone, Copy)]
pub struct ParamView<'a>(View<'a>);

#[derive(Clone, Copy)]
enum View<'a> {
    Float(&'a dyn FloatView),
    Host(&'a Tensor),
    Quantized(&'a QuantizedTensor),
}

/// The methods of [`FloatTensor`] that do not mention the type.
trait FloatView {
    fn shape(&self) -> Cow<'_, [usize]>;
    fn values(&self) -> Cow<'_, [f32]>;
    fn float_type(&self) -> FloatType;
    fn half_bits(&self) -> Option<Cow<'_, [u16]>>;
    fn as_any(&self) -> Option<&dyn Any>;
}

impl<T: FloatTensor> FloatView for T {
    fn shape(&self) -> Cow<'_, [usize]> {
        FloatTensor::shape(self)
    }

    fn values(&self) -> Cow<'_, [f32]> {
        FloatTensor::values(self)
    }

    fn float_type(&self) -> FloatType {
        FloatTensor::float_type(self)
    }

    fn half_bits(&self) -> Option<Cow<'_, [u16]>> {
        FloatTensor::half_bits(self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        FloatTensor::as_any(self)
    }
}

impl<'a> ParamView<'a> {
    /// The view of a float storage.
    pub(super) fn of_float(value: &'a impl FloatTensor) -> Self {
        Self(View::Float(value))
    }

    /// The extent of each axis.
    pub fn shape(self) -> Cow<'a, [usize]> {
        match self.0 {
            View::Float(value) => value.shape(),
            View::Host(tensor) => Cow::Borrowed(tensor.shape()),
            View::Quantized(tensor) => Cow::Borrowed(tensor.shape()),
        }
    }

    /// The values in row-major order: borrowed if the storage holds them in this order, dequantized
    /// if the parameter is quantized.
    pub fn values(self) -> Cow<'a, [f32]> {
        match self.0 {
            View::Float(value) => value.values(),
            View::Host(tensor) => tensor.values(),
            View::Quantized(tensor) => Cow::Owned(tensor.dequantize()),
        }
    }

    /// The type of the elements, or `None` if the parameter is quantized.
    pub fn float_type(self) -> Option<FloatType> {
        match self.0 {
            View::Float(value) => Some(value.float_type()),
            View::Host(tensor) => tensor.float_type(),
            View::Quantized(_) => None,
        }
    }

    /// The bits of the elements in row-major order, if the parameter is float in half precision.
    pub fn half_bits(self) -> Option<Cow<'a, [u16]>> {
        match self.0 {
            View::Float(value) => {
                let half = HalfType::of(value.float_type())?;
                let narrowed = || Cow::Owned(half.narrow(&value.values()));
                Some(value.half_bits().unwrap_or_else(narrowed))
            }
            View::Host(tensor) => tensor.half_bits().map(Cow::Borrowed),
            View::Quantized(_) => None,
        }
    }

    /// The quantized tensor, or `None` when the parameter is float.
    pub fn quantized(self) -> Option<&'a QuantizedTensor> {
        match self.0 {
            View::Float(_) => None,
            View::Host(tensor) => tensor.quantized(),
            View::Quantized(tensor) => Some(tensor),
        }
    }

    /// The bytes that the parameter takes now: those of its elements, or of codes, scales and zero
    /// points.
    pub fn byte_count(self) -> u64 {
        let elements = element_count(&self.shape()).unwrap_or(usize::MAX) as u64;
        match self.quantized() {
            Some(tensor) => tensor.byte_count() as u64,
            None => elements.saturating_mul(self.float_type().unwrap_or_default().bytes() as u64),
        }
    }

    /// Whether the parameter is quantized.
    pub fn is_quantized(self) -> bool {
        self.quantized().is_some()
    }

    /// The float storage, if its type is `T` and it implements [`FloatTensor::as_any`].
    pub fn downcast_ref<T: FloatTensor + 'static>(self) -> Option<&'a T> {
        self.as_any()?.downcast_ref()
    }

    pub(crate) fn as_any(self) -> Option<&'a dyn Any> {
        match self.0 {
            View::Float(value) => value.as_any(),
            View::Host(_) | View::Quantized(_) => None,
        }
    }

    /// Checks that the storage has as many values as its shape says.
    ///
    /// # Errors
    /// It has not.
    #[doc(hidden)]
    pub fn check_values(self) -> Result<(), TensorError> {
        let View::Float(value) = self.0 else { return Ok(()) };
        let count = match value.half_bits() {
            Some(bits) => bits.len(),
            None => value.values().len(),
        };
        check_len(&value.shape(), count)
    }

    /// A copy of the parameter.
    ///
    /// # Panics
    /// If the storage does not have as many values as its shape says.
    pub fn to_tensor(self) -> Tensor {
        self.try_to_tensor().expect("a storage has as many values as its shape says")
    }

    /// A copy of the parameter, unless the storage has not as many values as its shape says.
    pub(crate) fn try_to_tensor(self) -> Result<Tensor, TensorError> {
        match self.0 {
            View::Float(value) => {
                let (shape, ty) = (value.shape(), value.float_type());
                let copied = match self.half_bits() {
                    None => SharedTensor::new(&shape, value.values().into_owned()),
                    Some(bits) => SharedTensor::from_half_bits(&shape, ty, bits.into_owned()),
                };
                copied.map(Tensor::from)
            }
            View::Host(tensor) => Ok(tensor.clone()),
            View::Quantized(tensor) => Ok(tensor.clone().into()),
        }
    }
}

impl<'a> From<&'a QuantizedTensor> for ParamView<'a> {
    fn from(tensor: &'a QuantizedTensor) -> Self {
        Self(View::Quantized(tensor))
    }
}

impl<'a> From<&'a Tensor> for ParamView<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self(View::Host(tensor))
    }
}
