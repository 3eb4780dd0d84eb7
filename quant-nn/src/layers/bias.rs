//! The shape of a bias.

use quant::FloatTensor;
use quant::tensor::TensorError;

/// Refuses a bias of another shape than `[outputs]`.
pub(super) fn check_bias<T: FloatTensor>(
    bias: Option<&T>,
    outputs: usize,
) -> Result<(), TensorError> {
    match bias {
        Some(bias) if *bias.shape() != [outputs] => {
            Err(TensorError::shape(&[outputs], &bias.shape()))
        }
        _ => Ok(()),
    }
}
