//! Tensors of the crate `candle-core`: `Tensor` and `Var` as storages of parameters.

use core::any::Any;
use std::borrow::Cow;

use candle_core::{DType, Device, Tensor, Var};

use super::{FloatTensor, FloatType, TensorError, check_len};

/// The device and element type of a tensor of candle, and whether it is a variable.
#[derive(Clone, Debug)]
pub struct CandleDevice {
    device: Device,
    dtype: DType,
    is_variable: bool,
}

impl CandleDevice {
    /// Those of this tensor.
    pub fn of(tensor: &Tensor) -> Self {
        let (device, dtype) = (tensor.device().clone(), tensor.dtype());
        Self { device, dtype, is_variable: tensor.is_variable() }
    }

    /// The device that holds the tensor's memory.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether the tensor is a variable.
    pub fn is_variable(&self) -> bool {
        self.is_variable
    }

    fn tensor(&self, shape: &[usize], values: Vec<f32>) -> candle_core::Result<Tensor> {
        match (self.is_variable, self.dtype) {
            (true, DType::F32) => Ok(Var::from_vec(values, shape, &self.device)?.into_inner()),
            (true, dtype) => {
                let tensor = Tensor::from_vec(values, shape, &self.device)?.to_dtype(dtype)?;
                Ok(Var::from_tensor(&tensor)?.into_inner())
            }
            (false, dtype) => Tensor::from_vec(values, shape, &self.device)?.to_dtype(dtype),
        }
    }
}

/// The values in row-major order, as f32.
fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// A type of candle that holds a tensor.
trait Holds: Sized {
    fn holding(tensor: Tensor) -> candle_core::Result<Self>;
}

impl Holds for Tensor {
    fn holding(tensor: Tensor) -> candle_core::Result<Self> {
        Ok(tensor)
    }
}

impl Holds for Var {
    fn holding(tensor: Tensor) -> candle_core::Result<Self> {
        Self::from_tensor(&tensor)
    }
}

macro_rules! float_tensor {
    ($(#[$doc:meta])* $storage:ty) => {
        $(#[$doc])*
        impl FloatTensor for $storage {
            type Device = CandleDevice;

            fn device(&self) -> CandleDevice {
                CandleDevice::of(self)
            }

            fn shape(&self) -> Cow<'_, [usize]> {
                Cow::Borrowed(self.dims())
            }

            fn values(&self) -> Cow<'_, [f32]> {
                Cow::Owned(values(self).expect("a device gives back what it holds"))
            }

            fn from_values(
                shape: &[usize],
                values: Vec<f32>,
                device: &CandleDevice,
            ) -> Result<Self, TensorError> {
                check_len(shape, values.len())?;
                device
                    .tensor(shape, values)
                    .and_then(Self::holding)
                    .map_err(|error| TensorError::Storage(error.to_string()))
            }

            fn float_type(&self) -> FloatType {
                match self.dtype() {
                    DType::F16 => FloatType::F16,
                    DType::BF16 => FloatType::Bf16,
                    _ => FloatType::F32,
                }
            }

            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }
        }
    };
}

float_tensor! {
    /// A tensor of candle, of any rank; values of other types than f32 are converted.
    ///
    /// Whatever replaces it lives on the same device, has the same type, and is a variable if it
    /// was one.
    ///
    /// # Panics
    /// `values` panics if the device fails to copy its memory to the host.
    Tensor
}

float_tensor! {
    /// A variable of candle; as [`Tensor`], and always a variable.
    Var
}
