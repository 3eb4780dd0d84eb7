//! Parameters whose values lie in memory that the CPU reads.

use std::borrow::Cow;

use ndarray::{Array, Dimension};
use quant::FloatTensor;
use quant::Param;
use quant::module::Cache;
use quant::tensor::{QuantizedTensor, SharedTensor};

/// A storage that the functions of this crate run on: its values lie in the host's memory.
///
/// Implemented for `ndarray::Array<f32, D>` of every rank, `Vec<f32>`, arrays of `f32` nested to
/// any depth, `f32` and [`SharedTensor`], and with the feature `half` for arrays of `half::f16` and
/// `half::bf16`, whose floats are converted each time they are used. A storage of your own needs one
/// line:
///
/// ```
/// # use std::borrow::Cow;
/// # use quant::{FloatTensor, tensor::TensorError};
/// # #[derive(Clone)]
/// # struct Mine(Vec<f32>);
/// # impl FloatTensor for Mine {
/// #     type Device = ();
/// #     fn device(&self) {}
/// #     fn shape(&self) -> Cow<'_, [usize]> { vec![self.0.len()].into() }
/// #     fn values(&self) -> Cow<'_, [f32]> { (&self.0).into() }
/// #     fn from_values(_: &[usize], values: Vec<f32>, (): &()) -> Result<Self, TensorError> { Ok(Self(values)) }
/// # }
/// impl quant_nn::CpuStorage for Mine {}
/// ```
#[diagnostic::on_unimplemented(
    message = "the functions of `quant_nn` do not run on parameters stored as `{Self}`",
    label = "not a storage in the host's memory",
    note = "they run on `Param<ndarray::Array<f32, D>>` of every rank, and on `Vec<f32>`, arrays of `f32`, `f32` and `SharedTensor`",
    note = "for candle's `Tensor` and `Var` call the operations of `quant_nn::Backend`: `Tensor::linear(…)`",
    note = "for a storage of your own write `impl quant_nn::CpuStorage for … {{}}`"
)]
pub trait CpuStorage: FloatTensor<Device = ()> {}

impl CpuStorage for f32 {}
impl CpuStorage for Vec<f32> {}
impl CpuStorage for SharedTensor {}
impl<D: Dimension> CpuStorage for Array<f32, D> {}
#[cfg(feature = "half")]
impl<D: Dimension> CpuStorage for Array<half::f16, D> {}
#[cfg(feature = "half")]
impl<D: Dimension> CpuStorage for Array<half::bf16, D> {}
impl<T, const N: usize> CpuStorage for [T; N] where Self: FloatTensor<Device = ()> {}

mod sealed {
    pub trait Sealed {}
    impl<T: super::CpuStorage> Sealed for quant::Param<T> {}
}

/// A parameter that the functions of this crate run on, whatever the rank of its storage: every
/// [`Param<T>`](Param) whose `T` is a [`CpuStorage`].
///
/// The trait is sealed.
pub trait CpuParam: sealed::Sealed {
    /// The extent of each axis.
    fn shape(&self) -> Cow<'_, [usize]>;

    /// The values in row-major order; dequantized if the parameter is quantized.
    fn values(&self) -> Cow<'_, [f32]>;

    /// The quantized tensor, or `None` while the parameter is float.
    fn quantized(&self) -> Option<&QuantizedTensor>;

    /// The values that were computed from the parameter, such as packed weights.
    fn cache(&self) -> &Cache;
}

impl<T: CpuStorage> CpuParam for Param<T> {
    fn shape(&self) -> Cow<'_, [usize]> {
        Param::shape(self)
    }

    fn values(&self) -> Cow<'_, [f32]> {
        match (self.as_float(), Param::quantized(self)) {
            (Some(value), _) => value.values(),
            (None, Some(tensor)) => Cow::Owned(tensor.dequantize()),
            (None, None) => unreachable!("a parameter is float or quantized"),
        }
    }

    fn quantized(&self) -> Option<&QuantizedTensor> {
        Param::quantized(self)
    }

    fn cache(&self) -> &Cache {
        Param::cache(self)
    }
}
