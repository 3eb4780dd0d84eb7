//! The perceptron of `examples::mlp` over candle's variables: the same paths, so that one's record
//! is the other's.

use candle_core::{Device, Result, Tensor, Var};
use quant::Module;
use quant_nn::{Backend, ForwardError, Linear, Unary};

/// 64-32-32-10.
#[derive(Clone, Debug, Module)]
pub(crate) struct Trainee {
    fc1: Linear<Var>,
    fc2: Linear<Var>,
    fc3: Linear<Var>,
}

impl Trainee {
    /// Weights uniform in ±√(6 / (in + out)), biases 0.
    pub(crate) fn new(
        rng: &mut fastrand::Rng,
    ) -> std::result::Result<Self, Box<dyn std::error::Error>> {
        let mut layer = |inputs: usize, outputs: usize| {
            let weight = weight(inputs, outputs, rng)?;
            let bias = Var::zeros(outputs, candle_core::DType::F32, &Device::Cpu)?;
            Ok::<_, Box<dyn std::error::Error>>(Linear::new(weight, Some(bias))?)
        };
        Ok(Self { fc1: layer(64, 32)?, fc2: layer(32, 32)?, fc3: layer(32, 10)? })
    }

    /// Scores, `[n, 10]`, of images, `[n, 64]`.
    pub(crate) fn forward(&self, images: &Tensor) -> std::result::Result<Tensor, ForwardError> {
        let hidden = Var::unary(self.fc1.forward(images)?, Unary::Relu)?;
        let hidden = Var::unary(self.fc2.forward(&hidden)?, Unary::Relu)?;
        self.fc3.forward(&hidden)
    }
}

fn weight(inputs: usize, outputs: usize, rng: &mut fastrand::Rng) -> Result<Var> {
    let bound = (6.0 / (inputs + outputs) as f32).sqrt();
    let values = (0..inputs * outputs).map(|_| bound * (2.0 * rng.f32() - 1.0));
    Var::from_vec(values.collect::<Vec<_>>(), (outputs, inputs), &Device::Cpu)
}
