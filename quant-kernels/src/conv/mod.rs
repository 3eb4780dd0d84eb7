//! Two-dimensional convolution in integers.
//!
//! An image is quantized as a whole and laid out once as `[group][height][width][channel]`, with
//! its border of padding filled with the zero point, which contributes nothing. A patch is then a
//! few runs of neighbouring codes, and the convolution is the integer product of patches and
//! weights: the patches of a tile are gathered when it is prepared, never all of them at once.
//! Where each group has one input channel (depthwise), there is nothing to multiply as a matrix:
//! those are summed directly, along the width.
//!
//! `y = f32(acc) * (sa * sw) + bias` as in rule 6, where `acc` sums over the input channels of the
//! group and the window, and padding stands for the value 0.
//!
//! Here stand the ways in, which differ in how an image becomes codes; `shape` has the sizes,
//! `packed` the weights, `image` the layout, `patches` the products and `depthwise` the direct sums.

mod depthwise;
mod im2col;
mod layout;
mod packed;
mod shape;

pub use self::{packed::PackedConv, shape::ConvShape};

use self::layout::Image;
use self::packed::Groups;
use self::shape::Geometry;
use crate::dispatch::Kernel;
use crate::error::{ConvError, LinearError};
use crate::gemm::check;
use crate::gemm::epilogue::{Epilogue, Output};
use crate::gemm::scratch::{Scratch, grown};
use crate::pack::source::{Row, row_of};
use crate::scheme::{Dynamic, Grid, NonFinite, QuantizationType, ScaleType, Static};

/// Images to convolve: `[batch, channel, height, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a, T> {
    /// The values, row-major.
    pub values: &'a [T],
    /// Images.
    pub batch: usize,
    /// Height and width.
    pub size: [usize; 2],
}

impl Kernel {
    /// Convolves float images that are quantized by their own range, each image by its own if
    /// `dynamic` is per row. The output is `[batch, out channel, height, width]`.
    ///
    /// # Errors
    /// - the weights are packed for another kernel;
    /// - a slice has the wrong length, or the window does not fit into the image;
    /// - a value is NaN or infinite.
    ///
    /// After an error the output is unspecified.
    pub fn conv2d_dynamic(
        self,
        weights: &PackedConv,
        x: Images<'_, f32>,
        dynamic: Dynamic,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let grid = Grid::new(QuantizationType::QInt8, dynamic.mapping, ScaleType::F32);
        let range = if dynamic.per_row {
            None
        } else {
            let (lo, hi) = self.min_max(x.values).map_err(LinearError::from)?;
            Some(row_of(grid, lo, hi))
        };
        let (qmin, qmax) = grid.code_range();
        self.conv2d(weights, &x, epilogue, output, scratch, |values, codes| {
            let row = match range {
                Some(row) => row,
                None => {
                    let (lo, hi) = self.min_max(values)?;
                    row_of(grid, lo, hi)
                }
            };
            self.quantize(values, row.scale, row.zero - 128, qmin, qmax, codes);
            Ok(row)
        })
    }

    /// Convolves float images that are quantized with given parameters.
    ///
    /// # Errors
    /// As [`Kernel::conv2d_dynamic`], but infinite values saturate; NaN is an error.
    pub fn conv2d_static(
        self,
        weights: &PackedConv,
        x: Images<'_, f32>,
        quantization: Static,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let Static { scale, zero_point, range } = quantization;
        check::range(range)?;
        let row = Row::new(scale, i32::from(zero_point));
        let (qmin, qmax) = (i32::from(range.0), i32::from(range.1));
        self.conv2d(weights, &x, epilogue, output, scratch, |values, codes| {
            if let Some(index) = self.first_nan(values) {
                return Err(NonFinite { index, value: values[index] });
            }
            self.quantize(values, row.scale, row.zero - 128, qmin, qmax, codes);
            Ok(row)
        })
    }

    /// Convolves images of codes with one scale and zero point.
    ///
    /// # Errors
    /// As [`Kernel::conv2d_dynamic`], except that every value is good.
    #[allow(clippy::too_many_arguments)]
    pub fn conv2d_i8(
        self,
        weights: &PackedConv,
        x: Images<'_, i8>,
        scale: f32,
        zero_point: i8,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let row = Row::new(scale, i32::from(zero_point));
        self.conv2d(weights, &x, epilogue, output, scratch, |values, codes| {
            codes.copy_from_slice(values);
            Ok(row)
        })
    }

    /// `quantize` writes the codes of an image and returns their parameters; the place of an error is
    /// that in the image.
    fn conv2d<T>(
        self,
        weights: &PackedConv,
        x: &Images<'_, T>,
        epilogue: &Epilogue<'_>,
        mut output: Output<'_>,
        scratch: &mut Scratch,
        quantize: impl Fn(&[T], &mut [i8]) -> Result<Row, NonFinite>,
    ) -> Result<(), ConvError> {
        let shape = &weights.shape;
        let geometry = Geometry::new(shape, x.size)?;
        if weights.kernel != self {
            let (packed_for, called) = (weights.kernel.name(), self.name());
            return Err(LinearError::OtherKernel { packed_for, called }.into());
        }
        length("images", x.batch.saturating_mul(geometry.image()), x.values.len())?;
        length("output", x.batch.saturating_mul(geometry.output()), output.len())?;
        if let Some(bias) = epilogue.bias {
            length("bias", shape.out_channels, bias.len())?;
        }
        output.check_range()?;
        let mut codes = core::mem::take(&mut scratch.codes);
        let mut laid_out = core::mem::take(&mut scratch.laid_out);
        let mut result = Ok(());
        for image in 0..x.batch {
            let start = image * geometry.image();
            let values = &x.values[start..][..geometry.image()];
            let codes = grown(&mut codes, geometry.image(), 0);
            let row = match quantize(values, codes) {
                Ok(row) => row,
                Err(NonFinite { index, value }) => {
                    let error = NonFinite { index: start + index, value };
                    result = Err(LinearError::NonFinite(error).into());
                    break;
                }
            };
            let output = output.part(image * geometry.output(), geometry.output());
            let one = Image { kernel: self, geometry: &geometry, row, codes, epilogue };
            let laid_out = &mut laid_out;
            result = match &weights.groups {
                Groups::Matrices(groups) => one.matrices(groups, laid_out, output, scratch),
                Groups::Windows { codes, scales } => {
                    one.windows(codes, scales, laid_out, output);
                    Ok(())
                }
            };
            if result.is_err() {
                break;
            }
        }
        (scratch.codes, scratch.laid_out) = (codes, laid_out);
        result
    }
}

fn length(of: &'static str, expected: usize, found: usize) -> Result<(), ConvError> {
    Ok(check::length(of, expected, found)?)
}
