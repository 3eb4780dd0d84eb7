//! Arrays of floats, nested to any depth.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::error::{TensorError, check_len};
use super::float::FloatTensor;

/// `f32`, `[f32; N]`, `[[f32; M]; N]`…: types whose memory is that of an array of floats.
pub trait Nested: Sized + sealed::Sealed {
    /// Appends the extents of the axes.
    #[doc(hidden)]
    fn push_shape(shape: &mut Vec<usize>);
    /// The floats of a slice of such values.
    #[doc(hidden)]
    fn flatten(items: &[Self]) -> &[f32];
    /// Takes one value's floats from the front of `values`, which has enough.
    #[doc(hidden)]
    fn take(values: &mut core::slice::Iter<'_, f32>) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl<T: Sealed, const N: usize> Sealed for [T; N] {}
}

impl Nested for f32 {
    fn push_shape(_shape: &mut Vec<usize>) {}

    fn flatten(items: &[Self]) -> &[f32] {
        items
    }

    fn take(values: &mut core::slice::Iter<'_, f32>) -> Self {
        values.next().copied().unwrap_or_default()
    }
}

impl<T: Nested, const N: usize> Nested for [T; N] {
    fn push_shape(shape: &mut Vec<usize>) {
        shape.push(N);
        T::push_shape(shape);
    }

    fn flatten(items: &[Self]) -> &[f32] {
        T::flatten(items.as_flattened())
    }

    fn take(values: &mut core::slice::Iter<'_, f32>) -> Self {
        core::array::from_fn(|_| T::take(values))
    }
}

impl<T: Nested, const N: usize> FloatTensor for [T; N] {
    type Device = ();

    fn device(&self) {}

    fn shape(&self) -> Cow<'_, [usize]> {
        let mut shape = Vec::new();
        Self::push_shape(&mut shape);
        Cow::Owned(shape)
    }

    fn values(&self) -> Cow<'_, [f32]> {
        Cow::Borrowed(T::flatten(self))
    }

    fn from_values(shape: &[usize], values: Vec<f32>, (): &()) -> Result<Self, TensorError> {
        let mut own = Vec::new();
        Self::push_shape(&mut own);
        if own != shape {
            return Err(TensorError::shape(&own, shape));
        }
        check_len(shape, values.len())?;
        Ok(Self::take(&mut values.iter()))
    }
}
