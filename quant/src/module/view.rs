//! A parameter by reference, whatever its storage.

use alloc::borrow::Cow;
use core::any::Any;

use crate::scheme::element_count;
use crate::tensor::{FloatTensor, QuantizedTensor, Tensor};

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
    fn element_bytes(&self) -> usize;
    fn as_any(&self) -> Option<&dyn Any>;
}

impl<T: FloatTensor> FloatView for T {
    fn shape(&self) -> Cow<'_, [usize]> {
        FloatTensor::shape(self)
    }

    fn values(&self) -> Cow<'_, [f32]> {
        FloatTensor::values(self)
    }

    fn element_bytes(&self) -> usize {
        FloatTensor::element_bytes(self)
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
        match self.0 {
            View::Float(value) => elements.saturating_mul(value.element_bytes() as u64),
            _ => match self.quantized() {
                Some(tensor) => tensor.byte_count() as u64,
                None => elements.saturating_mul(4),
            },
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

    /// A copy of the parameter.
    pub fn to_tensor(self) -> Tensor {
        match self.0 {
            View::Float(value) => Tensor::from_values(&value.shape(), value.values().into_owned())
                .expect("a storage has as many values as its shape says"),
            View::Host(tensor) => tensor.clone(),
            View::Quantized(tensor) => tensor.clone().into(),
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
