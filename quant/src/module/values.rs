//! Changing the values of a float parameter, whatever its storage.

use super::walk::ParamMut;
use crate::tensor::{HalfType, SharedTensor, TensorError};

/// Changes the values of a float parameter in row-major order. Its shape and the type of its elements stay.
///
/// # Errors
/// A quantized parameter, which stays as it is.
pub(crate) fn change_values(
    param: &mut dyn ParamMut,
    change: impl FnOnce(&mut [f32]),
) -> Result<(), TensorError> {
    let Some(float_type) = param.view().float_type() else {
        return Err(TensorError::Storage("a quantized parameter cannot be changed".into()));
    };
    let tensor = param.take();
    let shape = tensor.shape().to_vec();
    let mut values = tensor.into_values();
    change(&mut values);
    let changed = match HalfType::of(float_type) {
        None => SharedTensor::new(&shape, values)?,
        Some(half) => SharedTensor::from_half_bits(&shape, float_type, half.narrow(&values))?,
    };
    param.put(changed.into())
}
