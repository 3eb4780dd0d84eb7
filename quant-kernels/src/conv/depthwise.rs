//! Depthwise convolution: groups with one input channel. There is no matrix to multiply, so neighbouring
//! output positions are summed directly, along the width.
//!
//! ```text
//! for y, for x in steps of PIXELS
//!   acc = -za · Σ w                                              (PIXELS of them)
//!   for i, for j in the kernel
//!     acc[p] += a[y·stride + i·dilation, (x + p)·stride + j·dilation] · w[i, j]
//! ```

use super::finish::Finish;
use super::layout::Image;
use super::shape::{Geometry, PIXELS};
use crate::gemm::epilogue::Output;
use crate::gemm::scratch::grown;
use crate::isa::Isa;
use crate::isa::Operation;
use alloc::vec::Vec;

impl Image<'_> {
    /// Sums the kernel of each output channel over its plane.
    pub(super) fn depthwise(
        &self,
        kernels: &[i16],
        scales: &[f32],
        planes: &mut Vec<u8>,
        mut output: Output<'_>,
    ) {
        let Geometry { shape, padded, .. } = *self.geometry;
        // The last positions of the last row read beyond it.
        let size = padded[0] * padded[1];
        let plane = grown(planes, size + PIXELS * shape.stride[1], 0);
        let pixels = self.geometry.pixels();
        let per_channel = shape.group_out();
        for (channel, weights) in kernels.chunks(shape.kernel_len()).enumerate() {
            if channel % per_channel == 0 {
                self.lay_out(channel / per_channel, &mut plane[..size]);
            }
            self.kernel.run(Channel {
                geometry: self.geometry,
                plane,
                weights,
                compensation: weights.iter().fold(0, |compensation: i32, code| {
                    compensation.wrapping_sub(self.row.zero * i32::from(*code))
                }),
                finish: Finish {
                    scale: self.row.scale * scales[channel],
                    bias: self.epilogue.bias.map(|bias| bias[channel]),
                    relu: self.epilogue.relu,
                },
                output: output.part(channel * pixels, pixels),
            });
        }
    }
}

/// One channel of a depthwise convolution.
struct Channel<'a> {
    geometry: &'a Geometry<'a>,
    plane: &'a [u8],
    weights: &'a [i16],
    /// `-za · Σ w`.
    compensation: i32,
    finish: Finish,
    output: Output<'a>,
}

impl Operation for Channel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let [height, width] = self.geometry.out;
        for y in 0..height {
            for x in (0..width).step_by(PIXELS) {
                // The last positions are computed together with some before them, which are repeated.
                let x = x.min(width.saturating_sub(PIXELS));
                let sums = match self.geometry.shape.stride[1] {
                    1 => self.sums::<1>(y, x),
                    2 => self.sums::<2>(y, x),
                    _ => self.sums::<0>(y, x),
                };
                let count = PIXELS.min(width - x);
                self.finish.write(isa, &sums, &mut self.output, y * width + x, count);
            }
        }
    }
}

impl Channel<'_> {
    /// Accumulators of neighbouring positions, `STRIDE` apart in the plane (0: known at run time only).
    ///
    /// `Σ (a - za) · w = Σ a · w - za · Σ w`.
    #[inline(always)]
    fn sums<const STRIDE: usize>(&self, y: usize, x: usize) -> [i32; PIXELS] {
        let Geometry { shape, padded, .. } = self.geometry;
        let stride = if STRIDE == 0 { shape.stride[1] } else { STRIDE };
        let mut sums = [self.compensation; PIXELS];
        for (i, row_weights) in self.weights.chunks(shape.kernel_size[1]).enumerate() {
            let row = y * shape.stride[0] + i * shape.dilation[0];
            for (j, weight) in row_weights.iter().enumerate() {
                let start = row * padded[1] + x * stride + j * shape.dilation[1];
                let codes = &self.plane[start..start + PIXELS * stride];
                for i in 0..PIXELS {
                    let product = i32::from(codes[i * stride]) * i32::from(*weight);
                    // The final value fits; intermediate values may overflow.
                    sums[i] = sums[i].wrapping_add(product);
                }
            }
        }
        sums
    }
}
