//! Pooling of float images, and its gradient.

use crate::backend::shape;
use crate::error::ForwardError;
use crate::ops::Pool;

/// The sizes of a pooling.
#[derive(Clone, Copy)]
pub(crate) struct PoolGeometry {
    pool: Pool,
    batch: usize,
    channels: usize,
    /// Height and width of an image.
    size: [usize; 2],
    /// Height and width of the result.
    output: [usize; 2],
}

impl PoolGeometry {
    /// The sizes of a pooling of `x`, if the kernel fits into the images.
    pub(crate) fn new(x: &[usize], pool: Pool) -> Result<Self, ForwardError> {
        let [batch, channels, height, width] = shape::images("pool2d", x)?;
        let size = [height, width];
        match pool.output_size(size) {
            Some(output) => Ok(Self { pool, batch, channels, size, output }),
            None => Err(shape::shape_error("pool2d", format!("images that hold a {pool:?}"), x)),
        }
    }

    /// The shape of the result: `[batch, channels, height, width]`.
    pub(crate) fn output_dims(&self) -> [usize; 4] {
        [self.batch, self.channels, self.output[0], self.output[1]]
    }

    /// The pooled values of `x`.
    pub(crate) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let ([rows, columns], [height, width]) = (self.size, self.output);
        let (kernel, stride) = (self.pool.kernel_size(), self.pool.stride());
        let mut y = Vec::with_capacity(self.output_dims().iter().product());
        for image in x.chunks((rows * columns).max(1)) {
            for (down, right) in (0..height).flat_map(|d| (0..width).map(move |r| (d, r))) {
                let inside = (0..kernel[0]).flat_map(|i| {
                    let start = (down * stride[0] + i) * columns + right * stride[1];
                    image[start..start + kernel[1]].iter().copied()
                });
                y.push(match self.pool {
                    Pool::Max { .. } => inside.fold(f32::NEG_INFINITY, f32::max),
                    Pool::Average { .. } => inside.sum::<f32>() / (kernel[0] * kernel[1]) as f32,
                });
            }
        }
        y
    }

    /// The gradient of `x`. That of a maximum goes to the first element that equals it.
    #[cfg(feature = "candle")]
    pub(crate) fn backward(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let ([rows, columns], [height, width]) = (self.size, self.output);
        let (kernel, stride) = (self.pool.kernel_size(), self.pool.stride());
        let mut dx = vec![0.0; x.len()];
        let pixels = (rows * columns).max(1);
        let images = x.chunks(pixels).zip(dx.chunks_mut(pixels));
        for ((x, dx), dy) in images.zip(dy.chunks((height * width).max(1))) {
            for (i, &dy) in dy.iter().enumerate() {
                let (down, right) = (i / width * stride[0], i % width * stride[1]);
                let inside = (0..kernel[0])
                    .flat_map(|i| (0..kernel[1]).map(move |j| (down + i) * columns + right + j));
                match self.pool {
                    Pool::Max { .. } => {
                        let greatest = |best, at| if x[at] > x[best] { at } else { best };
                        inside.reduce(greatest).into_iter().for_each(|at| dx[at] += dy);
                    }
                    Pool::Average { .. } => {
                        let share = dy / (kernel[0] * kernel[1]) as f32;
                        inside.for_each(|at| dx[at] += share);
                    }
                }
            }
        }
        dx
    }
}
