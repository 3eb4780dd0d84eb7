//! Two-dimensional convolution in integers.
//!
//! An image is quantized as a whole and laid out once as `[group][height][width][channel]`, with its padding
//! filled by the zero point, which contributes nothing. An im2col row is then a few runs of contiguous codes,
//! and the convolution is the integer product of these rows and the weights. The rows of a tile are gathered
//! when it is packed; the im2col matrix never exists as a whole. Depthwise convolutions are summed directly.
//!
//! `y = f32(acc) * (sa * sw) + bias` as in rule 6, where `acc` sums over the input channels of the group and
//! the kernel, and padding stands for the value 0.
//!
//! A transposed convolution is a pointwise one, to a channel for each output channel and position of the kernel,
//! whose sums are then added where they belong.
//!
//! Imports `gemm` and the layers below. Start here: `shape` has the sizes, `images` the input, `packed` the
//! weights, `layout` the images as products take them, `im2col` and `pointwise` the rows of products,
//! `depthwise` the direct sums, `transposed` all of transposed convolutions.

mod depthwise;
mod finish;
mod im2col;
mod images;
mod layout;
mod packed;
mod pointwise;
mod shape;
mod transposed;

pub use self::images::Images;
pub use self::{
    packed::PackedConv,
    shape::ConvShape,
    transposed::{ConvTransposeShape, PackedConvTranspose},
};

use self::images::Quantized;
use self::layout::Image;
use self::packed::Groups;
use self::shape::Geometry;
use crate::dispatch::Kernel;
use crate::error::{ConvError, LinearError};
use crate::gemm::check;
use crate::gemm::epilogue::{Epilogue, Output};
use crate::gemm::scratch::Scratch;

impl Kernel {
    /// Convolves images with packed weights. The output is `[batch, out channel, height, width]`.
    ///
    /// # Errors
    /// - The weights are packed for another kernel.
    /// - A slice has the wrong length, or the kernel does not fit into the padded image.
    /// - The size of the padded image exceeds the address space.
    /// - [`Images::Dynamic`]: a value is NaN or infinite, or the granularity is that of blocks.
    ///   [`Images::Static`]: a value is NaN; infinities saturate.
    ///
    /// After an error the output is unspecified.
    pub fn conv2d(
        self,
        weights: &PackedConv,
        x: Images<'_>,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let geometry = Geometry::new(&weights.shape, x.size())?;
        let each = geometry.output();
        let batch = Batch { kernel: self, x, image: geometry.image(), each, output };
        batch.check(weights.kernel, epilogue, weights.shape.out_channels)?;
        batch.for_each(scratch, |image, output, scratch| {
            let Quantized { codes, row } = image;
            let image = Image { kernel: self, geometry: &geometry, row, codes, epilogue };
            image.convolve(&weights.groups, output, scratch)
        })
    }
}

/// A batch of images, and where its outputs go.
struct Batch<'a> {
    kernel: Kernel,
    x: Images<'a>,
    /// The elements of an image.
    image: usize,
    /// The outputs of an image.
    each: usize,
    output: Output<'a>,
}

impl Batch<'_> {
    /// Refuses weights that are packed for another kernel, and slices of the wrong length.
    fn check(
        &self,
        packed_for: Kernel,
        epilogue: &Epilogue<'_>,
        out_channels: usize,
    ) -> Result<(), ConvError> {
        if packed_for != self.kernel {
            let (packed_for, called) = (packed_for.name(), self.kernel.name());
            return Err(LinearError::OtherKernel { packed_for, called }.into());
        }
        length("output", self.x.batch().saturating_mul(self.each), self.output.len())?;
        if let Some(bias) = epilogue.bias {
            length("bias", out_channels, bias.len())?;
        }
        Ok(())
    }

    /// Calls `f` with each image, quantized, and its part of the output.
    fn for_each(
        mut self,
        scratch: &mut Scratch,
        mut f: impl FnMut(Quantized<'_>, Output<'_>, &mut Scratch) -> Result<(), ConvError>,
    ) -> Result<(), ConvError> {
        let mut codes = core::mem::take(&mut scratch.codes);
        let mut number = 0;
        let result = self.kernel.for_each_image(self.x, self.image, &mut codes, |image| {
            let output = self.output.part(number * self.each, self.each);
            number += 1;
            f(image, output, scratch)
        });
        scratch.codes = codes;
        result
    }
}

impl Image<'_> {
    /// Convolves the image.
    fn convolve(
        &self,
        groups: &Groups,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let mut laid_out = core::mem::take(&mut scratch.laid_out);
        let result = match groups {
            Groups::Matrices(groups) => self.matrices(groups, &mut laid_out, output, scratch),
            Groups::Depthwise { codes, scales } => {
                self.depthwise(codes, scales, &mut laid_out, output);
                Ok(())
            }
        };
        scratch.laid_out = laid_out;
        result
    }
}

fn length(of: &'static str, expected: usize, found: usize) -> Result<(), ConvError> {
    Ok(check::length(of, expected, found)?)
}
