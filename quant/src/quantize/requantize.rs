//! From one scheme to another, without all floats in memory.

use alloc::vec::Vec;
use core::ops::Range;

use super::weights::{WeightError, quantize_values};
use crate::calibration::Calibration;
use crate::scheme::{Groups, QuantizationScheme, packing};
use crate::tensor::{QuantizedTensor, TensorError, common_grain, grain, groups_before, part_shape};

/// About so many values are floats at a time.
const PART: usize = 1 << 19;

/// Quantizes a quantized tensor again, from the values that its codes stand for.
///
/// The result is that of [`quantize_values`] of [`dequantize`](QuantizedTensor::dequantize), which takes
/// four bytes for each value. This takes two MiB where both schemes have blocks, or channels along the
/// first axis, and as much as that otherwise.
///
/// ```
/// use quant::quantize::{quantize_values, requantize};
/// use quant::MinMaxCalibration;
///
/// let [four, eight] = ["per-block-symmetric-int4", "per-channel-symmetric-int8"];
/// let values: Vec<f32> = (0..256).map(|i| (i as f32).sin()).collect();
/// let tensor = quantize_values(&[2, 128], &values, four.parse()?, &MinMaxCalibration {})?;
/// let tensor = requantize(&tensor, eight.parse()?, &MinMaxCalibration {})?;
/// assert_eq!(tensor.scheme().to_string(), eight);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`quantize_values`].
pub fn requantize<C: Calibration + Send + Sync>(
    tensor: &QuantizedTensor,
    scheme: QuantizationScheme,
    calibration: &C,
) -> Result<QuantizedTensor, WeightError> {
    let shape = tensor.shape();
    let again = |shape: &[usize], part: &QuantizedTensor| {
        quantize_values(shape, &part.dequantize(), scheme, calibration)
    };
    let count = tensor.groups().element_count();
    let grain = common_grain(grain(shape, tensor.scheme()), grain(shape, scheme));
    let Some(grain) = grain.filter(|&grain| grain < count) else { return again(shape, tensor) };
    let len = grain * PART.div_ceil(grain);
    let mut parts = Vec::with_capacity(count.div_ceil(len));
    for start in (0..count).step_by(len) {
        let elements = start..count.min(start + len);
        let part_shape = part_shape(shape, scheme, elements.len()).expect("it has a grain");
        let part = again(&part_shape, &part_of(tensor, elements).map_err(WeightError::Tensor)?);
        let groups = groups_before(shape, scheme, start);
        parts.push(part.map_err(|error| error.in_part(start, groups))?);
    }
    joined(shape, scheme, &parts).map_err(WeightError::Tensor)
}

/// These elements of a tensor that has a grain, at which they begin.
fn part_of(
    tensor: &QuantizedTensor,
    elements: Range<usize>,
) -> Result<QuantizedTensor, TensorError> {
    let (shape, scheme) = (tensor.shape(), tensor.scheme());
    let row = shape.last().copied().unwrap_or(1);
    let row_bytes = packing::row_bytes(row, scheme.quantization_type());
    let bytes = elements.start / row * row_bytes..elements.end / row * row_bytes;
    let part = part_shape(shape, scheme, elements.len()).expect("it has a grain");
    let before = groups_before(shape, scheme, elements.start);
    let groups = before..before + Groups::new(&part, scheme.granularity())?.count();
    let codes = tensor.packed_codes()[bytes].to_vec();
    let scales = tensor.scales()[groups.clone()].to_vec();
    let minimums = tensor.minimums().get(groups.clone()).unwrap_or_default().to_vec();
    let zero_points = tensor.zero_points().get(groups).unwrap_or_default().to_vec();
    assembled(&part, scheme, codes, scales, minimums, zero_points)
}

/// The tensor that has these parts, one after the other.
fn joined(
    shape: &[usize],
    scheme: QuantizationScheme,
    parts: &[QuantizedTensor],
) -> Result<QuantizedTensor, TensorError> {
    let codes = joined_by(parts, QuantizedTensor::packed_codes);
    let scales = joined_by(parts, QuantizedTensor::scales);
    let minimums = joined_by(parts, QuantizedTensor::minimums);
    let zero_points = joined_by(parts, QuantizedTensor::zero_points);
    assembled(shape, scheme, codes, scales, minimums, zero_points)
}

/// `minimums` or `zero_points` are empty, as the mapping has it.
fn assembled(
    shape: &[usize],
    scheme: QuantizationScheme,
    codes: Vec<u8>,
    scales: Vec<f32>,
    minimums: Vec<f32>,
    zero_points: Vec<i8>,
) -> Result<QuantizedTensor, TensorError> {
    if scheme.mapping().has_minimums() {
        return QuantizedTensor::with_minimums(shape, scheme, codes, scales, minimums);
    }
    QuantizedTensor::from_parts(shape, scheme, codes, scales, zero_points)
}

fn joined_by<T: Copy>(parts: &[QuantizedTensor], of: fn(&QuantizedTensor) -> &[T]) -> Vec<T> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| of(part).len()).sum());
    parts.iter().for_each(|part| all.extend_from_slice(of(part)));
    all
}
