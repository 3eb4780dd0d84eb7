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
//! Imports `gemm` and the layers below. Start here: `shape` has the sizes, `packed` the weights, `layout` the
//! images, `im2col` and `pointwise` the rows of products, `depthwise` the direct sums.

mod depthwise;
mod im2col;
mod layout;
mod packed;
mod pointwise;
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
use crate::pack::source::{Row, params_of};
use crate::scheme::{
    DynamicGranularity, DynamicQuantization, Grid, NonFinite, QuantParams, Quantization,
    QuantizationType, ScaleType,
};

/// Images to convolve, `[batch, channel, height, width]` in row-major order, and how they are
/// quantized.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Images<'a> {
    /// 8-bit codes with one scale and zero point.
    Codes {
        /// The codes.
        codes: &'a [i8],
        /// The number of images.
        batch: usize,
        /// Height and width.
        size: [usize; 2],
        /// The same for all images.
        params: QuantParams,
    },
    /// Floats that are quantized to 8 bits by the range that they have (rule 7): by that of each image if
    /// `quantization` is per row.
    Dynamic {
        /// The values.
        values: &'a [f32],
        /// The number of images.
        batch: usize,
        /// Height and width.
        size: [usize; 2],
        /// Mapping and granularity.
        quantization: DynamicQuantization,
    },
    /// Floats that are quantized with parameters from calibration.
    Static {
        /// The values.
        values: &'a [f32],
        /// The number of images.
        batch: usize,
        /// Height and width.
        size: [usize; 2],
        /// The same for all images.
        quantization: Quantization,
    },
}

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
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        match x {
            Images::Codes { codes, batch, size, params } => {
                let x = Batch { values: codes, batch, size };
                self.convolve(weights, &x, epilogue, output, scratch, |values, codes| {
                    codes.copy_from_slice(values);
                    Ok(params.into())
                })
            }
            Images::Dynamic { values, batch, size, quantization } => {
                let DynamicQuantization { mapping, granularity } = quantization;
                let grid = Grid::new(QuantizationType::QInt8, mapping.into(), ScaleType::F32);
                let params_of = |values: &[f32]| {
                    let (lo, hi) = self.min_max(values)?;
                    Ok(params_of(grid, lo, hi))
                };
                let shared = match granularity {
                    DynamicGranularity::Row => None,
                    DynamicGranularity::Tensor => {
                        Some(params_of(values).map_err(LinearError::NonFinite)?)
                    }
                    DynamicGranularity::Block(_) => return Err(LinearError::BlockedImages.into()),
                };
                let x = Batch { values, batch, size };
                self.convolve(weights, &x, epilogue, output, scratch, |values, codes| {
                    let params = shared.map_or_else(|| params_of(values), Ok)?;
                    self.quantize(values, Quantization::new(params, grid), codes);
                    Ok(params.into())
                })
            }
            Images::Static { values, batch, size, quantization } => {
                let x = Batch { values, batch, size };
                self.convolve(weights, &x, epilogue, output, scratch, |values, codes| {
                    if let Some(index) = self.first_nan(values) {
                        return Err(NonFinite { index, value: values[index] });
                    }
                    self.quantize(values, quantization, codes);
                    Ok(quantization.params.into())
                })
            }
        }
    }

    /// `quantize` writes the codes of an image and returns their parameters; the index of an error counts from
    /// the start of the image.
    fn convolve<T>(
        self,
        weights: &PackedConv,
        x: &Batch<'_, T>,
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
                Groups::Depthwise { codes, scales } => {
                    one.depthwise(codes, scales, laid_out, output);
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

/// Images of one type of values.
struct Batch<'a, T> {
    values: &'a [T],
    batch: usize,
    size: [usize; 2],
}

fn length(of: &'static str, expected: usize, found: usize) -> Result<(), ConvError> {
    Ok(check::length(of, expected, found)?)
}
