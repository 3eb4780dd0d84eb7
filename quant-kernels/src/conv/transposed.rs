//! Transposed convolution: each input is multiplied with the whole kernel, and the products are added where
//! they meet in the output.
//!
//! ```text
//! for each output channel o, position t of the kernel, position i of the image
//!   product[o, t, i] = Σ_c (a[c, i] - za) · (w[o, c, t] - zw[o])       (a pointwise convolution, in i32)
//!   acc[o, i · stride + t · dilation - padding] += product[o, t, i]    (if it is in the output)
//! ```
//!
//! Every product is computed once, where a convolution of an image with zeros between its pixels would multiply
//! with these zeros. All sums are exact, so their order is free.

use super::Batch;
use super::finish::Finish;
use super::images::{Images, Quantized};
use super::layout::Image;
use super::packed::{PackedConv, by_position, check_conv, of_channel, unpacked};
use super::shape::{ConvShape, Geometry, PIXELS};
use crate::dispatch::Kernel;
use crate::error::{ConvError, PackError};
use crate::gemm::epilogue::{Epilogue, Output};
use crate::gemm::scratch::{Scratch, grown};
use crate::isa::{Isa, Operation};
use crate::pack::weights::{Codes, Weights};
use crate::parallel::both;
use crate::scheme::{Axis, Granularity};
use alloc::vec;
use alloc::vec::Vec;

/// The shape of a transposed convolution.
///
/// ```
/// use quant_kernels::ConvTransposeShape;
///
/// let shape = ConvTransposeShape {
///     in_channels: 8,
///     out_channels: 4,
///     kernel_size: [4, 4],
///     stride: [2, 2],
///     padding: [[1, 1], [1, 1]],
///     output_padding: [0, 0],
///     dilation: [1, 1],
///     groups: 1,
/// };
/// assert_eq!(shape.output_size([5, 7]), Some([10, 14]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTransposeShape {
    /// Input channels, of all groups.
    pub in_channels: usize,
    /// Output channels, of all groups.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Distance in the output of neighbouring inputs, down and to the right.
    pub stride: [usize; 2],
    /// Rows left out of the output above and below, columns left and right: `[[top, bottom], [left, right]]`.
    pub padding: [[usize; 2]; 2],
    /// Rows added to the output below, columns to the right.
    pub output_padding: [usize; 2],
    /// Distance in the output of the positions of the kernel; 1 if they are adjacent.
    pub dilation: [usize; 2],
    /// Groups of channels that are convolved separately.
    pub groups: usize,
}

impl ConvTransposeShape {
    /// Height and width of the output for an input of this height and width: along each axis
    /// `(n - 1) · stride + dilation · (kernel - 1) + 1 + output padding - padding`.
    ///
    /// `None` if that is not positive, if the input, the kernel, the stride or the dilation is 0 along an axis, or
    /// if a size leaves `usize`.
    pub fn output_size(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            if self.stride[i] == 0 || self.dilation[i] == 0 {
                return None;
            }
            let last = input[i].checked_sub(1)?.checked_mul(self.stride[i])?;
            let reach = self.kernel_size[i].checked_sub(1)?.checked_mul(self.dilation[i])?;
            let all = last.checked_add(reach)?.checked_add(1)?;
            let all = all.checked_add(self.output_padding[i])?;
            let [before, after] = self.padding[i];
            all.checked_sub(before)?.checked_sub(after).filter(|size| *size > 0)
        };
        Some([along(0)?, along(1)?])
    }

    /// The convolution with weights of the same shape.
    fn conv(&self) -> ConvShape {
        let Self {
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, ..
        } = *self;
        ConvShape { in_channels, out_channels, kernel_size, stride, padding, dilation, groups }
    }
}

/// Weights of a transposed convolution that are packed for one kernel. Other kernels refuse them.
#[derive(Clone, Debug)]
pub struct PackedConvTranspose {
    shape: ConvTransposeShape,
    /// A pointwise convolution to one channel for each output channel and position of the kernel.
    products: PackedConv,
    /// One for each output channel.
    scales: Vec<f32>,
}

impl PackedConvTranspose {
    /// Packs weights `[out, in / groups, height, width]`, given as a matrix with one row per output channel.
    ///
    /// `PyTorch` has them as `[in, out / groups, height, width]`. The kernel is not turned.
    ///
    /// # Errors
    /// Those of [`PackedConv::new`]. The limit of K counts all positions of the kernel.
    pub fn new(
        kernel: Kernel,
        shape: ConvTransposeShape,
        weights: &Weights<'_>,
    ) -> Result<Self, PackError> {
        let conv = shape.conv();
        check_conv(&conv, weights)?;
        let (channels, positions) = (conv.group_in(), conv.kernel_len());
        let codes = unpacked(kernel, weights);
        let ordered = by_position(&codes, channels, positions);
        let n = weights.n * positions;
        let zero_points: Vec<i8> = match weights.zero_points {
            [] => Vec::new(),
            zeros => (0..n)
                .map(|row| zeros[if zeros.len() == 1 { 0 } else { row / positions }])
                .collect(),
        };
        let ones = vec![1.0; n];
        let pointwise = ConvShape {
            out_channels: n,
            kernel_size: [1, 1],
            stride: [1, 1],
            padding: [[0; 2]; 2],
            dilation: [1, 1],
            ..conv
        };
        let of_rows = Weights {
            n,
            k: channels,
            codes: Codes::Bytes(&ordered),
            granularity: Granularity::PerChannel(Axis::FIRST),
            scales: &ones,
            zero_points: &zero_points,
            minimums: &[],
        };
        let scale = |channel| of_channel(weights.granularity, weights.scales, channel);
        Ok(Self {
            shape,
            products: PackedConv::new(kernel, pointwise, &of_rows)?,
            scales: (0..weights.n).map(|channel| scale(channel).unwrap_or(1.0)).collect(),
        })
    }

    /// The shape that the weights are packed for.
    pub const fn shape(&self) -> &ConvTransposeShape {
        &self.shape
    }

    /// The kernel that these weights are packed for.
    pub const fn kernel(&self) -> Kernel {
        self.products.kernel
    }
}

impl Kernel {
    /// Computes the transposed convolution of images with packed weights. The output is `[batch, out channel,
    /// height, width]`.
    ///
    /// # Errors
    /// - The weights are packed for another kernel.
    /// - A slice has the wrong length, or the padding leaves no output.
    /// - The size of the products, [`ConvTransposeShape::kernel_size`] for each output channel and pixel of the
    ///   image, exceeds the address space.
    /// - Values that cannot be quantized, as in [`Kernel::conv2d`].
    ///
    /// After an error the output is unspecified.
    pub fn conv_transpose2d(
        self,
        weights: &PackedConvTranspose,
        x: Images<'_>,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let PackedConvTranspose { shape, products, scales } = weights;
        let size = x.size();
        let out = shape.output_size(size).ok_or(ConvError::NoOutput { size })?;
        let geometry = Geometry::new(&products.shape, size)?;
        let pixels = out[0].saturating_mul(out[1]);
        let each = shape.out_channels.saturating_mul(pixels);
        let batch = Batch { kernel: self, x, image: geometry.image(), each, output };
        batch.check(products.kernel, epilogue, shape.out_channels)?;
        let workers = scratch.workers_for(self, &[geometry.output(), PRODUCTS_PER_SUM]);
        let len = workers.saturating_mul(pixels).saturating_add(geometry.output());
        if len > isize::MAX as usize / size_of::<i32>() {
            return Err(ConvError::TooLarge { size });
        }
        let mut buffer = core::mem::take(&mut scratch.products);
        let (computed, sums) = grown(&mut buffer, len, 0).split_at_mut(geometry.output());
        let result = batch.for_each(scratch, |image, output, scratch| {
            let Quantized { codes, row } = image;
            let none = Epilogue::default();
            let image = Image { kernel: self, geometry: &geometry, row, codes, epilogue: &none };
            image.convolve(&products.groups, Output::I32(computed), scratch)?;
            let of_image = Sums { kernel: self, shape, size, out, products: computed, epilogue };
            let scale = |channel: usize| row.scale * scales[channel];
            of_image.channels(0..shape.out_channels, &scale, output, sums, workers);
            Ok(())
        });
        scratch.products = buffer;
        result
    }
}

/// Adding a product takes as long as about so many multiplications of 8-bit codes.
const PRODUCTS_PER_SUM: usize = 32;

/// The products of an image, to be added.
#[derive(Clone, Copy)]
struct Sums<'a> {
    kernel: Kernel,
    shape: &'a ConvTransposeShape,
    /// Height and width of the image.
    size: [usize; 2],
    /// Height and width of the output.
    out: [usize; 2],
    /// `[out channel, position of the kernel, pixel of the image]`
    products: &'a [i32],
    epilogue: &'a Epilogue<'a>,
}

impl Sums<'_> {
    /// Writes some channels of the output, each with its scale. `sums` has as many pixels for each worker as a
    /// channel of the output.
    fn channels(
        &self,
        channels: core::ops::Range<usize>,
        scale: &(impl Fn(usize) -> f32 + Sync),
        mut output: Output<'_>,
        sums: &mut [i32],
        workers: usize,
    ) {
        let pixels = self.out[0] * self.out[1];
        if workers > 1 && channels.len() > 1 {
            let half = channels.start + channels.len() / 2;
            let (left, right) = output.split_at((half - channels.start) * pixels);
            let (sums, others) = sums.split_at_mut(workers / 2 * pixels);
            return both(
                || self.channels(channels.start..half, scale, left, sums, workers / 2),
                || self.channels(half..channels.end, scale, right, others, workers - workers / 2),
            );
        }
        let first = channels.start;
        for channel in channels {
            let finish = Finish {
                scale: scale(channel),
                bias: self.epilogue.bias.map(|bias| bias[channel]),
                relu: self.epilogue.relu,
            };
            let output = output.part((channel - first) * pixels, pixels);
            let sums = &mut sums[..pixels];
            self.kernel.run(Channel { of: self, channel, finish, sums, output });
        }
    }

    /// The inputs along an axis whose product with position `at` of the kernel is in the output, and where the
    /// first of them is.
    fn inputs(&self, axis: usize, at: usize) -> (core::ops::Range<usize>, usize) {
        let (stride, before) = (self.shape.stride[axis], self.shape.padding[axis][0]);
        let offset = at * self.shape.dilation[axis];
        let start = before.saturating_sub(offset).div_ceil(stride);
        // The last position of the output, counted from where the padding starts.
        let last = self.out[axis] - 1 + before;
        let end = last.checked_sub(offset).map_or(0, |room| room / stride + 1);
        let end = end.min(self.size[axis]);
        if start >= end {
            return (0..0, 0);
        }
        (start..end, start * stride + offset - before)
    }
}

/// One channel of the output.
struct Channel<'a> {
    of: &'a Sums<'a>,
    channel: usize,
    finish: Finish,
    sums: &'a mut [i32],
    output: Output<'a>,
}

impl Operation for Channel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        self.sums.fill(0);
        let [height, width] = self.of.shape.kernel_size;
        for down in 0..height {
            for right in 0..width {
                self.add(down, right);
            }
        }
        for (part, sums) in self.sums.chunks(PIXELS).enumerate() {
            let mut whole = [0; PIXELS];
            whole[..sums.len()].copy_from_slice(sums);
            self.finish.write(isa, &whole, &mut self.output, part * PIXELS, sums.len());
        }
    }
}

impl Channel<'_> {
    /// Adds the products with one position of the kernel.
    #[inline(always)]
    fn add(&mut self, down: usize, right: usize) {
        let Sums { shape, size, out, products, .. } = *self.of;
        let [height, width] = shape.kernel_size;
        let plane = (self.channel * height + down) * width + right;
        let products = &products[plane * size[0] * size[1]..][..size[0] * size[1]];
        let ((rows, top), (columns, left)) = (self.of.inputs(0, down), self.of.inputs(1, right));
        for (number, row) in rows.enumerate() {
            let products = &products[row * size[1]..][columns.clone()];
            let start = (top + number * shape.stride[0]) * out[1] + left;
            let sums = &mut self.sums[start..];
            match shape.stride[1] {
                1 => add_each(sums, products, 1),
                2 => add_each(sums, products, 2),
                stride => add_each(sums, products, stride),
            }
        }
    }
}

/// Adds products to sums that are `stride` apart.
#[inline(always)]
fn add_each(sums: &mut [i32], products: &[i32], stride: usize) {
    for (sum, product) in sums.iter_mut().step_by(stride).zip(products) {
        // The final value fits; intermediate values may overflow.
        *sum = sum.wrapping_add(*product);
    }
}
