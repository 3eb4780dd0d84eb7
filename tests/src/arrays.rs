//! Arrays of random values.

use ndarray::{ArrayD, IxDyn};

/// Random values in ±1, the same for the same shape and seed.
pub fn random(shape: &[usize], seed: u32) -> ArrayD<f32> {
    let mut state = seed;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}
