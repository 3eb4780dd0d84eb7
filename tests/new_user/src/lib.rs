//! What a new user writes after reading the README, and nothing else of this repository.

use anyhow::Result;
use ndarray::{Array1, Array2};
use quant::prelude::*;

/// The struct of the README.
#[derive(Clone, Debug, Module)]
pub struct Dense {
    weight: Param<Array2<f32>>,
    bias: Param<Array1<f32>>,
    input: ActivationQuantizer,
}

/// Two of them.
#[derive(Clone, Debug, Module)]
pub struct Model {
    /// `[8, 16]`
    pub hidden: Dense,
    /// `[4, 8]`
    pub output: Dense,
}

impl Dense {
    fn new(outputs: usize, inputs: usize) -> Self {
        let value = |(i, j)| ((7 * i + 3 * j) % 11) as f32 / 11.0 - 0.5;
        Self {
            weight: Array2::from_shape_fn((outputs, inputs), value).into(),
            bias: Array1::from_elem(outputs, 0.25).into(),
            input: ActivationQuantizer::new(),
        }
    }

    /// `x · wᵀ + b`
    ///
    /// # Errors
    /// Those of the product.
    pub fn forward(&self, x: &Array2<f32>) -> Result<Array2<f32>> {
        Ok(quant_nn::linear(x, &self.weight, Some(&self.bias), &self.input)?)
    }
}

impl Model {
    /// The model that was trained elsewhere.
    pub fn trained() -> Self {
        Self { hidden: Dense::new(8, 16), output: Dense::new(4, 8) }
    }

    /// `[batch, 16]` to `[batch, 4]`.
    ///
    /// # Errors
    /// Those of the layers.
    pub fn forward(&self, x: &Array2<f32>) -> Result<Array2<f32>> {
        let hidden = self.hidden.forward(x)?.mapv_into(|value| value.max(0.0));
        self.output.forward(&hidden)
    }
}

/// A recipe as a file has it.
///
/// # Errors
/// A text that is not a recipe.
pub fn recipe(activations: &str) -> Result<Recipe> {
    Ok(toml::from_str(&format!(
        r#"
        scheme = "per-channel-symmetric-int8"
        activations = "{activations}"

        [[rules]]
        path = "output.weight"
        scheme = "per-channel-symmetric-int4"
        "#
    ))?)
}

/// A batch of inputs.
pub fn batch(seed: usize) -> Array2<f32> {
    Array2::from_shape_fn((3, 16), |(i, j)| ((5 * i + j + seed) % 13) as f32 / 13.0)
}
