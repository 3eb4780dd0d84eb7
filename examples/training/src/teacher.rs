//! The float model that teaches: it runs over arrays, and its students over tensors.

use std::error::Error;

use candle_core::{Device, Tensor};
use ndarray::ArrayD;
use quant_nn::ForwardError;

/// What the teacher, `forward`, says of images.
///
/// # Errors
/// Those of candle or of the teacher.
pub fn scores(
    images: &Tensor,
    forward: impl FnOnce(&ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError>,
) -> Result<Tensor, Box<dyn Error>> {
    let images = ArrayD::from_shape_vec(images.dims(), images.flatten_all()?.to_vec1()?)?;
    let scores = forward(&images)?;
    Ok(Tensor::from_vec(scores.iter().copied().collect(), scores.shape(), &Device::Cpu)?)
}
