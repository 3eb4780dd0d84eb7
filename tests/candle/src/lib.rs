//! Shared by the tests of models whose tensors are candle's: random values, bits, and how to train.

mod mlp;

use candle_core::{Device, Tensor, Var};
use ndarray::{ArrayD, IxDyn};
use quant::Recipe;
use quant::scheme::ActivationScheme;
use quant_nn::training::{QatOptions, ScaleSource};

pub use mlp::{Mlp, set, step, variable};

/// Scales of weights and activations are learned.
pub const LEARNED: QatOptions = QatOptions::new().activation_scales(ScaleSource::Learned);

/// Scales of weights and activations follow their ranges.
pub const RANGES: QatOptions = QatOptions::new().weight_scales(ScaleSource::Range);

/// Weights of this scheme for everything, and these activations.
///
/// # Panics
/// If there is no such scheme.
pub fn recipe(scheme: &str, activations: ActivationScheme) -> Recipe {
    Recipe::new().scheme(scheme.parse().expect("a scheme")).activations(activations)
}

/// Random values in ±1, the same for the same seed.
pub fn random(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A variable of random values.
///
/// # Panics
/// If candle fails.
pub fn var(shape: &[usize], seed: u32) -> Var {
    Var::from_vec(random(shape.iter().product(), seed), shape, &Device::Cpu).expect("on the CPU")
}

/// A tensor of random values.
///
/// # Panics
/// If candle fails.
pub fn tensor(shape: &[usize], seed: u32) -> Tensor {
    Tensor::from_vec(random(shape.iter().product(), seed), shape, &Device::Cpu).expect("on the CPU")
}

/// The values of a tensor.
///
/// # Panics
/// If candle fails.
pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("f32 on the CPU")
}

/// The values' bits.
pub fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

/// The same values as an array.
///
/// # Panics
/// If candle fails.
pub fn array(tensor: &Tensor) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(tensor.dims()), values(tensor)).expect("as many as the shape says")
}

/// An array's bits.
pub fn array_bits(array: &ArrayD<f32>) -> Vec<u32> {
    array.iter().map(|value| value.to_bits()).collect()
}

/// The gradient of `loss` at `x` against finite differences.
///
/// # Panics
/// If they differ.
pub fn check_gradient(name: &str, x: &Var, loss: &dyn Fn(&Tensor) -> Tensor) {
    let gradients = loss(x).backward().expect("a scalar loss");
    let gradient = values(gradients.get(x).expect("a loss of the variable"));
    let own = values(x);
    let h = 1.0 / 128.0;
    for i in 0..own.len() {
        let at = |d: f32| {
            let mut moved = own.clone();
            moved[i] += d;
            let moved = Tensor::from_vec(moved, x.dims(), &Device::Cpu).expect("on the CPU");
            f64::from(loss(&moved).to_scalar::<f32>().expect("a scalar loss"))
        };
        let slope = (at(h) - at(-h)) / f64::from(2.0 * h);
        let error = (slope - f64::from(gradient[i])).abs();
        assert!(error < 2e-3 * (1.0 + slope.abs()), "{name} {i}: {slope} {}", gradient[i]);
    }
}
