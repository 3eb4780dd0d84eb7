//! A small convolutional network, written once for every storage.

use quant::tensor::TensorError;
use quant::{FloatTensor, Module, Param};
use quant_nn::{
    Backend, BatchNorm2d, Conv2d, Conv2dOptions, ConvNorm2d, ForwardError, Linear, Pool, Unary,
};

/// Two convolutions with norms, two dense layers (after `LeNet-5`).
#[derive(Clone, Debug, Module)]
pub(crate) struct LeNet<T: FloatTensor> {
    conv1: ConvNorm2d<T>,
    conv2: ConvNorm2d<T>,
    fc1: Linear<T>,
    fc2: Linear<T>,
}

/// Makes a parameter of this shape from its values.
pub(crate) type Make<'a, T> = &'a dyn Fn(&[usize], Vec<f32>) -> Result<T, TensorError>;

impl<T: FloatTensor> LeNet<T> {
    /// Random weights: uniform, with a variance of 2 over the number of inputs.
    pub(crate) fn new(make: Make<'_, T>, rng: &mut fastrand::Rng) -> Result<Self, TensorError> {
        Ok(Self {
            conv1: conv(make, [8, 1, 5, 5], rng)?,
            conv2: conv(make, [16, 8, 5, 5], rng)?,
            fc1: dense(make, [64, 256], rng)?,
            fc2: dense(make, [10, 64], rng)?,
        })
    }
}

fn weight<T>(
    make: Make<'_, T>,
    shape: &[usize],
    rng: &mut fastrand::Rng,
) -> Result<T, TensorError> {
    let inputs: usize = shape[1..].iter().product();
    let bound = (6.0 / inputs as f32).sqrt();
    let count = shape.iter().product();
    make(shape, (0..count).map(|_| bound * (2.0 * rng.f32() - 1.0)).collect())
}

fn conv<T: FloatTensor>(
    make: Make<'_, T>,
    shape: [usize; 4],
    rng: &mut fastrand::Rng,
) -> Result<ConvNorm2d<T>, TensorError> {
    let channels = shape[0];
    let conv = Conv2d::new(weight(make, &shape, rng)?, None, Conv2dOptions::default())?;
    let all = |value| make(&[channels], vec![value; channels]).map(Param::new);
    let norm = BatchNorm2d {
        weight: all(1.0)?,
        bias: all(0.0)?,
        running_mean: all(0.0)?,
        running_var: all(1.0)?,
        epsilon: 1e-5,
    };
    Ok(ConvNorm2d::new(conv, norm))
}

fn dense<T: FloatTensor>(
    make: Make<'_, T>,
    shape: [usize; 2],
    rng: &mut fastrand::Rng,
) -> Result<Linear<T>, TensorError> {
    let bias = make(&[shape[0]], vec![0.0; shape[0]])?;
    Linear::new(weight(make, &shape, rng)?, Some(bias))
}

impl<T: Backend> LeNet<T> {
    /// Scores, `[n, 10]`, of images, `[n, 1, 28, 28]`.
    pub(crate) fn forward(&self, images: &T::Activation) -> Result<T::Activation, ForwardError> {
        let pool = Pool::max([2, 2]);
        let x = T::unary(self.conv1.forward(images)?, Unary::Relu)?;
        let x = T::pool2d(&x, pool)?;
        let x = T::unary(self.conv2.forward(&x)?, Unary::Relu)?;
        let x = T::pool2d(&x, pool)?;
        let x = T::unary(self.fc1.forward(&T::flatten(x, 1)?)?, Unary::Relu)?;
        self.fc2.forward(&x)
    }
}
