//! Training in plain loops, whose result has the same bits on every machine.
//!
//! That is why the products are loops: a matrix product of a library takes other instructions on
//! other CPUs and rounds in other places. It is also why `exp` comes from `libm`, which is the
//! same code everywhere, and not from the platform.

use ndarray::{Array1, Array2, Axis};

use crate::digits::Samples;
use crate::mlp::{Dense, Mlp};

const EPOCHS: usize = 60;
const BATCH: usize = 32;
const LEARNING_RATE: f32 = 0.002;

/// Trains a model by Adam on the cross entropy; `progress` sees each epoch and its mean loss.
pub fn train(samples: &Samples, seed: u64, mut progress: impl FnMut(usize, f32)) -> Mlp {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut layers = Mlp::new(&mut rng).layers().map(Layer::new);
    let mut order: Vec<usize> = (0..samples.digits.len()).collect();
    let mut steps = 0;
    for epoch in 1..=EPOCHS {
        rng.shuffle(&mut order);
        let mut loss = 0.0;
        for batch in order.chunks(BATCH) {
            for &i in batch {
                let image: Vec<f32> =
                    samples.images.index_axis(Axis(0), i).iter().copied().collect();
                loss += learn(&mut layers, image, samples.digits[i]);
            }
            steps += 1;
            // The rate falls in a straight line to a twentieth.
            let rate = LEARNING_RATE * (1.0 - 0.95 * epoch as f32 / EPOCHS as f32);
            for layer in &mut layers {
                layer.step(steps, rate, batch.len());
            }
        }
        progress(epoch, loss / order.len() as f32);
    }
    let [fc1, fc2, fc3] = layers.map(Layer::into_dense);
    Mlp { fc1, fc2, fc3 }
}

/// Adds the gradients of one sample; returns its loss.
fn learn(layers: &mut [Layer; 3], image: Vec<f32>, digit: usize) -> f32 {
    let mut activations = vec![image];
    for (depth, layer) in layers.iter().enumerate() {
        let mut y = layer.forward(&activations[depth]);
        if depth + 1 < layers.len() {
            y.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        activations.push(y);
    }
    let mut gradient = softmax(&activations[layers.len()]);
    let loss = -libm::logf(gradient[digit].max(f32::MIN_POSITIVE));
    gradient[digit] -= 1.0;
    for depth in (0..layers.len()).rev() {
        let below = layers[depth].backward(&activations[depth], &gradient);
        gradient = below
            .into_iter()
            .zip(&activations[depth])
            .map(|(g, &x)| if depth > 0 && x <= 0.0 { 0.0 } else { g })
            .collect();
    }
    loss
}

fn softmax(scores: &[f32]) -> Vec<f32> {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = scores.iter().map(|&score| libm::expf(score - max)).collect();
    let sum: f32 = exps.iter().sum();
    exps.into_iter().map(|exp| exp / sum).collect()
}

/// A dense layer in training.
struct Layer {
    inputs: usize,
    weight: Adam,
    bias: Adam,
}

impl Layer {
    fn new(dense: &Dense) -> Self {
        let (weight, bias) = (dense.weight.value(), dense.bias.value());
        Self {
            inputs: weight.len_of(Axis(1)),
            weight: Adam::new(weight.iter().copied().collect()),
            bias: Adam::new(bias.iter().copied().collect()),
        }
    }

    fn into_dense(self) -> Dense {
        let shape = (self.bias.values.len(), self.inputs);
        let weight = Array2::from_shape_vec(shape, self.weight.values);
        let bias = Array1::from(self.bias.values);
        Dense::with(weight.expect("the shape has not changed"), bias)
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let rows = self.weight.values.chunks(self.inputs).zip(&self.bias.values);
        rows.map(|(row, bias)| bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()).collect()
    }

    /// Adds to the gradients; returns that of the input.
    fn backward(&mut self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let mut dx = vec![0.0; self.inputs];
        let rows = self.weight.values.chunks(self.inputs);
        for ((row, gradients), &dy) in
            rows.zip(self.weight.gradients.chunks_mut(self.inputs)).zip(dy)
        {
            for ((dx, &w), (g, &x)) in dx.iter_mut().zip(row).zip(gradients.iter_mut().zip(x)) {
                *dx += w * dy;
                *g += x * dy;
            }
        }
        self.bias.gradients.iter_mut().zip(dy).for_each(|(g, dy)| *g += dy);
        dx
    }

    fn step(&mut self, step: i32, rate: f32, samples: usize) {
        self.weight.step(step, rate, samples);
        self.bias.step(step, rate, samples);
    }
}

/// Values, their gradients, and Adam's running moments (Kingma and Ba, 2015).
struct Adam {
    values: Vec<f32>,
    gradients: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Adam {
    fn new(values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self { values, gradients: zeros.clone(), first: zeros.clone(), second: zeros }
    }

    fn step(&mut self, step: i32, rate: f32, samples: usize) {
        let (b1, b2) = (0.9f32, 0.999f32);
        let (c1, c2) = (1.0 - power(b1, step), 1.0 - power(b2, step));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, gradient), (first, second)) in
            self.values.iter_mut().zip(&mut self.gradients).zip(moments)
        {
            let g = *gradient / samples as f32;
            *first = b1 * *first + (1.0 - b1) * g;
            *second = b2 * *second + (1.0 - b2) * g * g;
            *value -= rate * (*first / c1) / ((*second / c2).sqrt() + 1e-8);
            *gradient = 0.0;
        }
    }
}

/// `base^exponent`; the platform's `powi` may round in other places.
fn power(base: f32, exponent: i32) -> f32 {
    (0..exponent).fold(1.0, |product, _| product * base)
}
