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
use alloc::vec::Vec;

impl Kernel {
    /// Convolves images with packed weights. The output is `[batch, out channel, height, width]`.
    ///
    /// # Errors
    /// - The weights are packed for another kernel.
    /// - A slice has the wrong length, or the kernel does not fit into the padded image.
    /// - The size of the padded image exceeds the address space.
    /// - [`Images::Dynamic`]: a value is NaN or infinite, or the granularity is that of blocks. [`Images::Static`]: a value is NaN;
    ///   infinities saturate.
    ///
    /// After an error the output is unspecified.
    pub fn conv2d(
        self,
        weights: &PackedConv,
        x: Images<'_>,
        epilogue: &Epilogue<'_>,
        mut output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let geometry = Geometry::new(&weights.shape, x.size())?;
        self.check_packed_for(weights.kernel)?;
        length("output", x.batch().saturating_mul(geometry.output()), output.len())?;
        if let Some(bias) = epilogue.bias {
            length("bias", weights.shape.out_channels, bias.len())?;
        }
        let mut codes = core::mem::take(&mut scratch.codes);
        let mut laid_out = core::mem::take(&mut scratch.laid_out);
        let result = self.for_each_image(x, geometry.image(), &mut codes, |image| {
            let output = output.part(image.number * geometry.output(), geometry.output());
            let Quantized { codes, row, .. } = image;
            let image = Image { kernel: self, geometry: &geometry, row, codes, epilogue };
            image.convolve(&weights.groups, &mut laid_out, output, scratch)
        });
        (scratch.codes, scratch.laid_out) = (codes, laid_out);
        result
    }

    /// Refuses weights that are packed for another kernel.
    fn check_packed_for(self, kernel: Self) -> Result<(), ConvError> {
        if kernel == self {
            return Ok(());
        }
        let (packed_for, called) = (kernel.name(), self.name());
        Err(LinearError::OtherKernel { packed_for, called }.into())
    }
}

impl Image<'_> {
    /// Convolves the image.
    fn convolve(
        &self,
        groups: &Groups,
        laid_out: &mut Vec<u8>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        match groups {
            Groups::Matrices(groups) => self.matrices(groups, laid_out, output, scratch),
            Groups::Depthwise { codes, scales } => {
                self.depthwise(codes, scales, laid_out, output);
                Ok(())
            }
        }
    }
}

fn length(of: &'static str, expected: usize, found: usize) -> Result<(), ConvError> {
    Ok(check::length(of, expected, found)?)
}
