//! Arrays of the crate `ndarray`: every static rank, and `IxDyn`; of `f32`, and with the feature
//! `half` of half precision.

use alloc::borrow::Cow;
use alloc::vec::Vec;

#[cfg(feature = "half")]
use half::slice::HalfFloatSliceExt;
use ndarray::{Array, Dimension, IxDyn};

use super::error::{TensorError, check_len};
use super::float::FloatTensor;
#[cfg(feature = "half")]
use super::float_type::FloatType;

impl<D: Dimension> FloatTensor for Array<f32, D> {
    type Device = ();

    fn device(&self) {}

    fn shape(&self) -> Cow<'_, [usize]> {
        Cow::Borrowed(self.shape())
    }

    /// Borrowed in standard layout; copied in logical order when transposed or sliced.
    fn values(&self) -> Cow<'_, [f32]> {
        match self.as_slice() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(self.iter().copied().collect()),
        }
    }

    fn from_values(shape: &[usize], values: Vec<f32>, (): &()) -> Result<Self, TensorError> {
        check_len(shape, values.len())?;
        let dynamic = Array::from_shape_vec(IxDyn(shape), values)
            .map_err(|error| TensorError::Storage(alloc::string::ToString::to_string(&error)))?;
        let found = dynamic.shape().to_vec();
        dynamic
            .into_dimensionality()
            .map_err(|_| TensorError::rank(D::NDIM.unwrap_or_default(), &found))
    }

    fn into_values(self) -> Vec<f32> {
        let len = self.len();
        if !self.is_standard_layout() {
            return self.iter().copied().collect();
        }
        // A slice of a larger allocation starts at an offset and ends before its end.
        let (mut values, offset) = self.into_raw_vec_and_offset();
        values.truncate(offset.unwrap_or(0) + len);
        values.drain(..offset.unwrap_or(0));
        values
    }
}

#[cfg(feature = "half")]
macro_rules! of_half_precision {
    ($element:ty, $ty:ident) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "half")))]
        impl<D: Dimension> FloatTensor for Array<$element, D> {
            type Device = ();

            fn device(&self) {}

            fn shape(&self) -> Cow<'_, [usize]> {
                Cow::Borrowed(self.shape())
            }

            fn values(&self) -> Cow<'_, [f32]> {
                Cow::Owned(self.iter().map(|element| element.to_f32()).collect())
            }

            fn from_values(
                shape: &[usize],
                values: Vec<f32>,
                (): &(),
            ) -> Result<Self, TensorError> {
                let array = <Array<f32, D> as FloatTensor>::from_values(shape, values, &())?;
                // Rounded to the nearest, which is exact for values that were of this type.
                Ok(array.mapv(<$element>::from_f32))
            }

            fn float_type(&self) -> FloatType {
                FloatType::$ty
            }

            fn half_bits(&self) -> Option<Cow<'_, [u16]>> {
                Some(match self.as_slice() {
                    Some(elements) => Cow::Borrowed(elements.reinterpret_cast()),
                    None => Cow::Owned(self.iter().map(|element| element.to_bits()).collect()),
                })
            }
        }
    };
}

#[cfg(feature = "half")]
of_half_precision!(half::f16, F16);
#[cfg(feature = "half")]
of_half_precision!(half::bf16, Bf16);
