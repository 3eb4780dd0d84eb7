//! Images as the caller has them, and their quantization, one after the other.

use super::length;
use crate::dispatch::Kernel;
use crate::error::{ConvError, LinearError};
use crate::gemm::scratch::grown;
use crate::pack::source::{Row, params_of};
use crate::scheme::{
    DynamicGranularity, DynamicQuantization, Grid, NonFinite, QuantParams, Quantization,
    QuantizationType, ScaleType,
};
use alloc::vec::Vec;

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

impl Images<'_> {
    /// Height and width.
    pub(super) fn size(&self) -> [usize; 2] {
        match self {
            Self::Codes { size, .. } | Self::Dynamic { size, .. } | Self::Static { size, .. } => {
                *size
            }
        }
    }

    /// The number of images.
    pub(super) fn batch(&self) -> usize {
        match self {
            Self::Codes { batch, .. }
            | Self::Dynamic { batch, .. }
            | Self::Static { batch, .. } => *batch,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Codes { codes, .. } => codes.len(),
            Self::Dynamic { values, .. } | Self::Static { values, .. } => values.len(),
        }
    }
}

/// A quantized image.
#[derive(Clone, Copy)]
pub(super) struct Quantized<'a> {
    pub(super) codes: &'a [i8],
    pub(super) row: Row,
}

impl Kernel {
    /// Calls `f` with each image of `image` elements in order, quantized into `buffer`.
    pub(super) fn for_each_image(
        self,
        x: Images<'_>,
        image: usize,
        buffer: &mut Vec<i8>,
        mut f: impl FnMut(Quantized<'_>) -> Result<(), ConvError>,
    ) -> Result<(), ConvError> {
        length("images", x.batch().saturating_mul(image), x.len())?;
        let buffer = grown(buffer, image, 0);
        match x {
            Images::Codes { codes, batch, params, .. } => (0..batch).try_for_each(|number| {
                let codes = &codes[number * image..][..image];
                f(Quantized { codes, row: params.into() })
            }),
            Images::Dynamic { values, batch, quantization, .. } => {
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
                (0..batch).try_for_each(|number| {
                    let values = &values[number * image..][..image];
                    let params = shared
                        .map_or_else(|| params_of(values), Ok)
                        .map_err(|error| in_batch(error, number * image))?;
                    self.quantize(values, Quantization::new(params, grid), buffer);
                    f(Quantized { codes: buffer, row: params.into() })
                })
            }
            Images::Static { values, batch, quantization, .. } => {
                (0..batch).try_for_each(|number| {
                    let values = &values[number * image..][..image];
                    if let Some(index) = self.first_nan(values) {
                        let error = NonFinite { index, value: values[index] };
                        return Err(in_batch(error, number * image));
                    }
                    self.quantize(values, quantization, buffer);
                    f(Quantized { codes: buffer, row: quantization.params.into() })
                })
            }
        }
    }
}

/// The error of a value of the image that starts at `start`.
fn in_batch(NonFinite { index, value }: NonFinite, start: usize) -> ConvError {
    LinearError::NonFinite(NonFinite { index: start + index, value }).into()
}
