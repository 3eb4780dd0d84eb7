use std::borrow::Cow;

use quant::activation::ActivationQuantizer;
use quant::tensor::TensorError;
use quant::{FloatTensor, Param};

struct Remote;

impl FloatTensor for Remote {
    type Device = u32;
    fn device(&self) -> u32 { 7 }
    fn shape(&self) -> Cow<'_, [usize]> { vec![0].into() }
    fn values(&self) -> Cow<'_, [f32]> { vec![].into() }
    fn from_values(_: &[usize], _: Vec<f32>, _: &u32) -> Result<Self, TensorError> { Ok(Self) }
}

fn main() {
    let x = ndarray::Array2::zeros((1, 1));
    let _ = quant_nn::linear(&x, &Param::new(Remote), None, &ActivationQuantizer::new());
}
