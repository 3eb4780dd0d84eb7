//! What a storage must offer to hold a parameter.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::any::Any;

use super::error::{TensorError, check_len};
use super::float_type::{FloatType, HalfType};
use super::shared::SharedTensor;

/// A storage of float values that a [`Param`](crate::Param) can hold.
///
/// Implemented for `f32` (rank 0), `Vec<f32>`, arrays of `f32` nested to any depth, and, with the
/// feature `ndarray`, `ndarray::Array<f32, D>`; with the feature `half`, also for arrays of
/// `half::f16` and `half::bf16`, which take half the memory. A type of your own takes a few lines:
///
/// ```
/// use std::borrow::Cow;
/// use quant::tensor::TensorError;
/// use quant::{FloatTensor, Module, Param};
///
/// #[derive(Clone)]
/// struct Image { width: usize, pixels: Vec<f32> }
///
/// impl FloatTensor for Image {
///     type Device = ();
///     fn device(&self) {}
///     fn shape(&self) -> Cow<'_, [usize]> {
///         vec![self.pixels.len() / self.width, self.width].into()
///     }
///     fn values(&self) -> Cow<'_, [f32]> { (&self.pixels).into() }
///     fn from_values(shape: &[usize], pixels: Vec<f32>, (): &()) -> Result<Self, TensorError> {
///         let &[_, width] = shape else { return Err(TensorError::rank(2, shape)) };
///         Ok(Self { width, pixels })
///     }
/// }
///
/// let param = Param::new(Image { width: 2, pixels: vec![1.0, 2.0, 3.0, 4.0] });
/// assert_eq!(param.shape(), [2, 2].as_slice());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hold a parameter",
    label = "not a storage of floats",
    note = "storages are `f32`, `Vec<f32>`, nested arrays of `f32`, `SharedTensor`, \
            `ndarray::Array<f32, D>` (feature `ndarray`), and candle's `Tensor` and `Var` (feature \
            `candle`)",
    note = "a type of your own implements `FloatTensor` in a few lines"
)]
pub trait FloatTensor: Sized {
    /// Where a tensor lives, kept while a parameter is quantized and needed to make it float
    /// again; `()` for a storage in the host's memory.
    type Device: Clone;

    /// Where this tensor lives.
    fn device(&self) -> Self::Device;

    /// The extent of each axis; empty for a scalar.
    fn shape(&self) -> Cow<'_, [usize]>;

    /// The values in row-major order, as many as the product of the shape; borrowed if the
    /// storage has them in this order.
    fn values(&self) -> Cow<'_, [f32]>;

    /// The tensor with this shape and these values in row-major order, on `device`.
    ///
    /// # Errors
    /// A shape that this storage cannot have. The number of values is the product of the shape.
    fn from_values(
        shape: &[usize],
        values: Vec<f32>,
        device: &Self::Device,
    ) -> Result<Self, TensorError>;

    /// The values in row-major order, moved out if the storage allows it.
    fn into_values(self) -> Vec<f32> {
        self.values().into_owned()
    }

    /// The tensor with the shape and values of `tensor`, on `device`.
    ///
    /// Values that lie in a mapped record are copied, unless a storage that can share memory
    /// says otherwise.
    ///
    /// # Errors
    /// A shape that this storage cannot have.
    fn from_shared(tensor: SharedTensor, device: &Self::Device) -> Result<Self, TensorError> {
        let (shape, values) = tensor.into_parts();
        Self::from_values(&shape, values, device)
    }

    /// Shape and elements, moved out if the storage allows it.
    ///
    /// # Panics
    /// If there are not as many values as the shape says, which only a faulty storage has.
    fn into_shared(self) -> SharedTensor {
        let shape = self.shape().into_owned();
        let made = match HalfType::of(self.float_type()) {
            None => SharedTensor::new(&shape, self.into_values()),
            Some(half) => {
                let bits = self.half_bits().map(Cow::into_owned);
                let bits = bits.unwrap_or_else(|| half.narrow(&self.values()));
                SharedTensor::from_bits(&shape, half, bits.into())
            }
        };
        made.expect("a storage has as many values as its shape says")
    }

    /// The type of the elements; single precision by default. Plans count with its bytes, and
    /// records store it.
    fn float_type(&self) -> FloatType {
        FloatType::F32
    }

    /// The bits of the elements in row-major order, if they are of half precision and the storage
    /// has them; `None` by default. [`values`](Self::values) are the same numbers.
    fn half_bits(&self) -> Option<Cow<'_, [u16]>> {
        None
    }

    /// The tensor as its own type, for
    /// [`ParamView::downcast_ref`](crate::module::ParamView::downcast_ref). Default: `None`.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

impl TensorError {
    /// A storage that has `rank` axes cannot hold a tensor of this shape.
    pub fn rank(rank: usize, shape: &[usize]) -> Self {
        Self::Shape { expected: alloc::format!("rank {rank}").into(), found: shape.into() }
    }

    /// A storage of one shape cannot hold a tensor of another.
    pub fn shape(expected: &[usize], found: &[usize]) -> Self {
        Self::Shape { expected: alloc::format!("shape {expected:?}").into(), found: found.into() }
    }
}

impl FloatTensor for Vec<f32> {
    type Device = ();

    fn device(&self) {}

    fn shape(&self) -> Cow<'_, [usize]> {
        Cow::Owned(alloc::vec![self.len()])
    }

    fn values(&self) -> Cow<'_, [f32]> {
        Cow::Borrowed(self)
    }

    fn from_values(shape: &[usize], values: Vec<f32>, (): &()) -> Result<Self, TensorError> {
        let [_] = shape else { return Err(TensorError::rank(1, shape)) };
        check_len(shape, values.len())?;
        Ok(values)
    }

    fn into_values(self) -> Vec<f32> {
        self
    }
}

impl FloatTensor for f32 {
    type Device = ();

    fn device(&self) {}

    fn shape(&self) -> Cow<'_, [usize]> {
        Cow::Borrowed(&[])
    }

    fn values(&self) -> Cow<'_, [f32]> {
        Cow::Borrowed(core::slice::from_ref(self))
    }

    fn from_values(shape: &[usize], values: Vec<f32>, (): &()) -> Result<Self, TensorError> {
        match (shape, values.as_slice()) {
            ([], &[value]) => Ok(value),
            ([], _) => Err(TensorError::Len { shape: [].into(), expected: 1, found: values.len() }),
            _ => Err(TensorError::rank(0, shape)),
        }
    }
}

impl FloatTensor for SharedTensor {
    type Device = ();

    fn device(&self) {}

    fn shape(&self) -> Cow<'_, [usize]> {
        Cow::Borrowed(Self::shape(self))
    }

    fn values(&self) -> Cow<'_, [f32]> {
        Self::values(self)
    }

    fn float_type(&self) -> FloatType {
        Self::float_type(self)
    }

    fn half_bits(&self) -> Option<Cow<'_, [u16]>> {
        Self::half_bits(self).map(Cow::Borrowed)
    }

    fn from_values(shape: &[usize], values: Vec<f32>, (): &()) -> Result<Self, TensorError> {
        Self::new(shape, values)
    }

    fn into_values(self) -> Vec<f32> {
        self.into_parts().1
    }

    fn from_shared(tensor: SharedTensor, (): &()) -> Result<Self, TensorError> {
        Ok(tensor)
    }

    fn into_shared(self) -> SharedTensor {
        self
    }
}
