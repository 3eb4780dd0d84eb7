//! Arrays of random values.

use ndarray::{ArrayD, IxDyn};

use crate::random::Random;

/// Random values in ±1, the same for the same shape and seed.
pub fn random(shape: &[usize], seed: u32) -> ArrayD<f32> {
    let mut random = Random(seed.into());
    ArrayD::from_shape_simple_fn(IxDyn(shape), || random.unit())
}

/// The bits of the values.
pub fn bits(x: &ArrayD<f32>) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
