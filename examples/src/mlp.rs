//! A perceptron of three layers, 64-32-32-10, as somebody would write it who has never heard of
//! quantization; then one derive, and one field more so that it can run in integers.

use std::error::Error;

use ndarray::{Array1, Array2, ArrayD, Axis};
use quant::activation::ActivationQuantizer;
use quant::scheme::ActivationScheme;
use quant::{Module, Param, Recipe};
use quant_nn::ForwardError;

use crate::digits::Samples;

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
    /// How the input is quantized, if it is.
    pub input: ActivationQuantizer,
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
    ///
    /// # Errors
    /// Images of another size, or a NaN where activations are quantized.
    pub fn forward(&self, images: &ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
        let relu = |x: ArrayD<f32>| x.mapv_into(|x| x.max(0.0));
        let hidden = relu(self.fc1.forward(images)?);
        let hidden = relu(self.fc2.forward(&hidden)?);
        self.fc3.forward(&hidden)
    }

    /// The model with weights and activations in 8 bits, by ranges that some of the samples have: static
    /// activations need data that is like the real one.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and values that are not finite.
    pub fn quantize_static(self, train: &Samples) -> Result<Self, Box<dyn Error>> {
        let mut fixed = recipe(ActivationScheme::STATIC)?;
        let batches = train.images.axis_chunks_iter(Axis(0), 64).take(8);
        let model = self
            .quantize_weights(&mut fixed)?
            .calibrate(&fixed, batches, |model, batch| model.forward(&batch.to_owned()))?
            .convert()?;
        Ok(model)
    }

    /// The digit of the highest score for each image.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn predict(&self, images: &ArrayD<f32>) -> Result<Array1<usize>, ForwardError> {
        let scores = self.forward(images)?;
        Ok(scores.rows().into_iter().map(|scores| argmax(scores.iter().copied())).collect())
    }
}

/// Weights to 8 bits, and activations as said.
///
/// # Errors
/// None: the name of the scheme is right.
pub fn recipe(activations: ActivationScheme) -> Result<Recipe, Box<dyn Error>> {
    Ok(Recipe::new().scheme("per-channel-symmetric-int8".parse()?).activations(activations))
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
        Self::with(weight, Array1::zeros(outputs))
    }

    /// The layer with this weight, `[out, in]`, and bias, `[out]`.
    pub fn with(weight: Array2<f32>, bias: Array1<f32>) -> Self {
        Self {
            weight: Param::new(weight),
            bias: Param::new(bias),
            input: ActivationQuantizer::new(),
        }
    }

    /// `[n, in]` to `[n, out]`: in floats, or in integers once weight and input are quantized.
    ///
    /// # Errors
    /// Rows of another length, or a NaN where the input is quantized.
    pub fn forward(&self, x: &ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
        quant_nn::linear(x, &self.weight, Some(&self.bias), &self.input)
    }
}
