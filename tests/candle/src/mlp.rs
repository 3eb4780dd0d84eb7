//! A small model in training, and its variables.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use quant::module::{ModuleVisitor, ParamView};
use quant::{Module, ParamId};
use quant_nn::training::{Qat, cross_entropy};
use quant_nn::{ForwardError, Linear};

use crate::{tensor, var};

/// Two layers, of 6 inputs and 4 outputs.
#[derive(Clone, Debug, Module)]
pub struct Mlp {
    /// The first layer, with 9 outputs.
    pub fc1: Linear<Var>,
    /// The second layer.
    pub fc2: Linear<Var>,
}

impl Mlp {
    /// Random weights.
    ///
    /// # Panics
    /// If candle fails.
    pub fn new(seed: u32) -> Self {
        let layer = |outputs: usize, inputs: usize, seed: u32| {
            Linear::new(var(&[outputs, inputs], seed), Some(var(&[outputs], seed + 1)))
                .expect("shapes that fit")
        };
        Self { fc1: layer(9, 6, seed), fc2: layer(4, 9, seed + 2) }
    }

    /// The outputs of a batch.
    ///
    /// # Errors
    /// Those of the layers.
    ///
    /// # Panics
    /// If candle fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, ForwardError> {
        self.fc2.forward(&self.fc1.forward(x)?.relu().expect("on the CPU"))
    }
}

/// A pass in train mode; the gradients of everything.
///
/// # Panics
/// If a layer or candle fails.
pub fn step(qat: &Qat<Mlp>, seed: u32) -> GradStore {
    let scores = qat.train(|model| model.forward(&tensor(&[8, 6], seed))).expect("finite inputs");
    let labels: Vec<u32> = (0..8).map(|i| (i + seed) % 4).collect();
    cross_entropy(&scores, &labels).and_then(|loss| loss.backward()).expect("finite scores")
}

/// The variable of this path.
///
/// # Panics
/// If there is none.
pub fn variable(qat: &Qat<Mlp>, path: &str) -> Var {
    struct Find<'a>(&'a str, Option<Var>);
    impl ModuleVisitor for Find<'_> {
        fn visit_float(&mut self, id: ParamId, param: ParamView<'_>) {
            if id == *self.0 {
                self.1 = param
                    .downcast_ref::<Var>()
                    .cloned()
                    .or_else(|| Var::from_tensor(param.downcast_ref::<Tensor>()?).ok());
            }
        }
    }
    let mut find = Find(path, None);
    qat.model().visit(&mut find);
    find.1.expect("a variable")
}

/// Sets every element of the variable of this path.
///
/// # Panics
/// If there is none.
pub fn set(qat: &Qat<Mlp>, path: &str, value: f32) {
    let var = variable(qat, path);
    var.set(&Tensor::full(value, var.dims(), &Device::Cpu).expect("on the CPU"))
        .expect("the same shape");
}
