//! A multilayer perceptron, 64-32-32-10, as somebody would write it who has never heard of
//! quantization; then one derive.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use quant::{Module, Param};

/// Three layers with a `ReLU` between.
#[derive(Clone, Debug, Module)]
pub struct Mlp {
    /// 64 pixels to 32 features.
    pub fc1: Dense,
    /// 32 features to 32.
    pub fc2: Dense,
    /// 32 features to a score for each digit.
    pub fc3: Dense,
}

/// `y = x · wᵀ + b`.
#[derive(Clone, Debug, Module)]
pub struct Dense {
    /// `[out, in]`
    pub weight: Param<Array2<f32>>,
    /// `[out]`
    pub bias: Param<Array1<f32>>,
}

impl Mlp {
    /// A model with random weights.
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        Self {
            fc1: Dense::new(64, 32, rng),
            fc2: Dense::new(32, 32, rng),
            fc3: Dense::new(32, 10, rng),
        }
    }

    /// The layers from input to output.
    pub fn layers(&self) -> [&Dense; 3] {
        [&self.fc1, &self.fc2, &self.fc3]
    }

    /// Scores, `[n, 10]`, of images, `[n, 64]`.
    pub fn forward(&self, images: ArrayView2<'_, f32>) -> Array2<f32> {
        let relu = |x: Array2<f32>| x.mapv_into(|x| x.max(0.0));
        let hidden = relu(self.fc1.forward(images));
        let hidden = relu(self.fc2.forward(hidden.view()));
        self.fc3.forward(hidden.view())
    }

    /// The digit of the highest score for each image.
    pub fn predict(&self, images: ArrayView2<'_, f32>) -> Array1<usize> {
        self.forward(images).map_axis(Axis(1), |scores| argmax(scores.iter().copied()))
    }
}

fn argmax(scores: impl Iterator<Item = f32>) -> usize {
    let best = scores.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(0, |(digit, _)| digit)
}

/// The share of predictions that are right.
pub fn accuracy(predicted: &Array1<usize>, digits: &Array1<usize>) -> f64 {
    let right = predicted.iter().zip(digits).filter(|(a, b)| a == b).count();
    right as f64 / digits.len() as f64
}

impl Dense {
    /// Weights uniform in ±√(6 / (in + out)), biases 0.
    pub fn new(inputs: usize, outputs: usize, rng: &mut fastrand::Rng) -> Self {
        let bound = (6.0 / (inputs + outputs) as f32).sqrt();
        let weight = Array2::from_shape_fn((outputs, inputs), |_| bound * (2.0 * rng.f32() - 1.0));
        Self { weight: Param::new(weight), bias: Param::new(Array1::zeros(outputs)) }
    }

    /// `[n, in]` to `[n, out]`.
    pub fn forward(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        x.dot(&self.weight.value().t()) + &*self.bias.value()
    }
}
