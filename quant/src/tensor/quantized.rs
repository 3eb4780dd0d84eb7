//! Packed codes with their scales and zero points.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
#[cfg(feature = "std")]
use std::sync::Arc;

use super::buffer::Buffer;
use super::error::TensorError;
#[cfg(feature = "std")]
use super::values::HoldsTensor;
use super::values::{Offsets, Parts, Values};
use crate::kernel::{BitWidth, Kernel};
use crate::scheme::{
    Grid, Group, Groups, Mapping, MinimumParams, QuantParams, Quantization, QuantizationScheme,
    QuantizationType, packing,
};

/// A quantized tensor: packed codes, and for each group a scale, and a zero point or a minimum if the
/// mapping has them.
///
/// All parts always fit each other, the scheme and the shape: the constructors check.
#[derive(Clone)]
pub struct QuantizedTensor {
    shape: Vec<usize>,
    scheme: QuantizationScheme,
    groups: Groups,
    values: Values,
}

impl PartialEq for QuantizedTensor {
    fn eq(&self, other: &Self) -> bool {
        (&self.shape, self.scheme) == (&other.shape, other.scheme)
            && self.values.parts() == other.values.parts()
    }
}

impl fmt::Debug for QuantizedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("QuantizedTensor");
        f.field("shape", &self.shape).field("scheme", &self.scheme);
        match self.values.is_here() {
            true => f.field("values", self.values.parts()).finish(),
            false => f.finish_non_exhaustive(),
        }
    }
}

impl QuantizedTensor {
    /// The tensor of these codes, scales and zero points.
    ///
    /// `codes` are packed by row as [`packing`] says; `scales` and `zero_points` have one entry
    /// for each group, in the order of [`Groups`]; only affine schemes have zero points.
    ///
    /// # Errors
    /// The first thing that does not fit: a length, a code or a zero point outside of the scheme's
    /// range, padding that is not zero, or a scale that its type does not have: a positive normal
    /// number, or any finite one under a full-range mapping. A scheme with minimums.
    pub fn from_parts(
        shape: &[usize],
        scheme: QuantizationScheme,
        codes: Vec<u8>,
        scales: Vec<f32>,
        zero_points: Vec<i8>,
    ) -> Result<Self, TensorError> {
        let offsets = Offsets::ZeroPoints(zero_points.into());
        Self::from_buffers(shape, scheme, codes.into(), scales.into(), offsets)
    }

    /// The tensor of these codes, scales and minimums, of a scheme that has minimums.
    ///
    /// As [`from_parts`](Self::from_parts), with a minimum for each group: the value of the least
    /// code, in the type of the scales.
    ///
    /// ```
    /// use quant::tensor::QuantizedTensor;
    ///
    /// // The codes −8 (the least) and 7 of one row, two to the byte.
    /// let scheme = "per-tensor-minimum-int4".parse()?;
    /// let tensor = QuantizedTensor::with_minimums(&[2], scheme, vec![0x78], vec![0.5], vec![1.0])?;
    /// assert_eq!(tensor.dequantize(), [1.0, 8.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_parts`](Self::from_parts); also a minimum that its type does not have, and a scheme
    /// without minimums.
    pub fn with_minimums(
        shape: &[usize],
        scheme: QuantizationScheme,
        codes: Vec<u8>,
        scales: Vec<f32>,
        minimums: Vec<f32>,
    ) -> Result<Self, TensorError> {
        let offsets = Offsets::Minimums(minimums.into());
        Self::from_buffers(shape, scheme, codes.into(), scales.into(), offsets)
    }

    /// As [`from_parts`](Self::from_parts), from buffers that may be shared.
    pub(crate) fn from_buffers(
        shape: &[usize],
        scheme: QuantizationScheme,
        codes: Buffer<u8>,
        scales: Buffer<f32>,
        offsets: Offsets,
    ) -> Result<Self, TensorError> {
        let groups = Groups::new(shape, scheme.granularity())?;
        check_scales(groups.count(), scheme, &scales)?;
        check_offsets(groups.count(), scheme, &offsets)?;
        check_codes(shape, scheme, &codes)?;
        let values = Values::Here(Parts { codes, scales, offsets });
        Ok(Self { shape: shape.into(), scheme, groups, values })
    }

    /// Quantizes `values` with `params`, which has an entry for each group.
    #[doc(hidden)]
    pub fn quantize(
        shape: &[usize],
        scheme: QuantizationScheme,
        groups: Groups,
        values: &[f32],
        params: &[QuantParams],
    ) -> Self {
        let coder = OverZeroPoints { grid: scheme.grid(), params };
        let codes = quantize_rows(shape, scheme, groups, values, &coder).into();
        let scales: Vec<f32> = params.iter().map(|params| params.scale()).collect();
        let zero_points: Vec<i8> = match scheme.mapping() {
            Mapping::Affine => params.iter().map(|params| params.zero_point()).collect(),
            _ => Vec::new(),
        };
        let (scales, offsets) = (scales.into(), Offsets::ZeroPoints(zero_points.into()));
        let values = Values::Here(Parts { codes, scales, offsets });
        Self { shape: shape.into(), scheme, groups, values }
    }

    /// Quantizes `values` over minimums; `params` has an entry for each group.
    pub(crate) fn quantize_over_minimums(
        shape: &[usize],
        scheme: QuantizationScheme,
        groups: Groups,
        values: &[f32],
        params: &[MinimumParams],
    ) -> Self {
        let coder = OverMinimums { grid: scheme.grid(), params };
        let codes = quantize_rows(shape, scheme, groups, values, &coder).into();
        let scales: Vec<f32> = params.iter().map(|params| params.scale).collect();
        let minimums: Vec<f32> = params.iter().map(|params| params.minimum).collect();
        let (scales, offsets) = (scales.into(), Offsets::Minimums(minimums.into()));
        let values = Values::Here(Parts { codes, scales, offsets });
        Self { shape: shape.into(), scheme, groups, values }
    }

    /// A tensor without elements, in the place of one that was moved out.
    pub(crate) fn placeholder() -> Self {
        let scheme = QuantizationScheme::PerTensorSymmetric(crate::scheme::QuantizationType::QInt8);
        let groups = Groups::new(&[], scheme.granularity()).expect("a scalar has one group");
        let (codes, scales) = (Vec::new().into(), Vec::new().into());
        let values = Values::Here(Parts { codes, scales, offsets: Offsets::none() });
        Self { shape: Vec::new(), scheme, groups, values }
    }

    /// Leaves the values to another form of the tensor, if that has the same.
    #[cfg(feature = "std")]
    pub(crate) fn release(&mut self, holder: Arc<dyn HoldsTensor>) -> Result<(), TensorError> {
        if holder.tensor()? != *self {
            return Err(TensorError::Storage("it holds another tensor".into()));
        }
        self.values = Values::held_by(holder);
        Ok(())
    }

    #[cfg(feature = "std")]
    pub(crate) fn into_parts(self) -> Parts {
        self.values.into_parts()
    }

    /// The extent of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The scheme of the codes and scales.
    pub fn scheme(&self) -> QuantizationScheme {
        self.scheme
    }

    /// The groups of elements that share a scale.
    pub fn groups(&self) -> Groups {
        self.groups
    }

    /// The packed codes; see [`packing`].
    pub fn packed_codes(&self) -> &[u8] {
        &self.values.parts().codes
    }

    /// The codes, one per byte, in row-major order.
    pub fn codes(&self) -> Vec<i8> {
        packing::unpack(self.packed_codes(), &self.shape, self.scheme.quantization_type())
    }

    /// The scale of each group.
    pub fn scales(&self) -> &[f32] {
        &self.values.parts().scales
    }

    /// The zero point of each group; empty unless the scheme is affine, where all are 0.
    pub fn zero_points(&self) -> &[i8] {
        match &self.values.parts().offsets {
            Offsets::ZeroPoints(zero_points) => zero_points,
            Offsets::Minimums(_) => &[],
        }
    }

    /// The value of the least code of each group; empty unless the scheme has minimums.
    pub fn minimums(&self) -> &[f32] {
        match &self.values.parts().offsets {
            Offsets::ZeroPoints(_) => &[],
            Offsets::Minimums(minimums) => minimums,
        }
    }

    /// The scale and zero point of one group. With minimums, the zero point is the least code, and
    /// [`minimums`](Self::minimums) has what is added to the product.
    ///
    /// # Panics
    /// If there is no such group.
    pub fn params(&self, group: usize) -> QuantParams {
        self.all_params()(group)
    }

    /// A function from a group to its scale and zero point, for loops over many groups.
    fn all_params(&self) -> impl Fn(usize) -> QuantParams {
        let (scales, zero_points) = (self.scales(), self.zero_points());
        let default = match self.scheme.mapping().has_minimums() {
            false => 0,
            true => code_range(self.scheme).start as i8,
        };
        // Scales were checked when the tensor was made.
        move |group| {
            let zero_point = zero_points.get(group).copied().unwrap_or(default);
            QuantParams::from_checked(scales[group], zero_point)
        }
    }

    /// Whether the codes are borrowed from a mapped record.
    pub fn is_borrowed(&self) -> bool {
        self.values.is_here() && self.values.parts().codes.is_shared()
    }

    /// The form that has the values, if this tensor does not; see [`Param::release`](crate::Param::release).
    #[cfg(feature = "std")]
    pub fn holder(&self) -> Option<&dyn HoldsTensor> {
        self.values.holder()
    }

    /// Whether codes, scales and offsets are in memory, in this tensor. They are not after
    /// [`Param::release`](crate::Param::release), until somebody asks for them.
    pub fn is_here(&self) -> bool {
        self.values.is_here()
    }

    /// The bytes that codes, scales, zero points and minimums take in a record.
    pub fn byte_count(&self) -> usize {
        let lens = record_lens(&self.shape, self.scheme, self.groups.count());
        lens.expect("counted when the tensor was made").iter().sum()
    }

    /// The values in row-major order: `f32(q - z) * s` (rule 3), and with minimums
    /// `f32(q - qmin) * s + m` (rule 13).
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = alloc::vec![0.0; self.groups.element_count()];
        self.dequantize_into(&mut values);
        values
    }

    /// As [`dequantize`](Self::dequantize), into memory of the caller. Allocating 64 MiB takes longer
    /// than filling them.
    ///
    /// # Panics
    /// If `values` is not as long as the tensor.
    pub fn dequantize_into(&self, values: &mut [f32]) {
        assert_eq!(values.len(), self.groups.element_count(), "one value for each element");
        // A row of an empty tensor may have any length, so no buffer is allocated for it.
        if values.is_empty() {
            return;
        }
        let (ty, params) = (self.scheme.quantization_type(), self.all_params());
        if ty.storage_bits() == 8 && !self.groups.is_interleaved() {
            let codes: &[i8] = bytemuck::cast_slice(self.packed_codes());
            for Group { index, elements } in self.groups.runs() {
                let values = &mut values[elements.clone()];
                self.dequantize_run(index, params(index), &codes[elements], values);
            }
            return;
        }
        let row = row_len(&self.shape).max(1);
        let mut codes = alloc::vec![0; row];
        let packed = self.packed_codes().chunks(packing::row_bytes(row, ty));
        for (number, (values, packed)) in values.chunks_mut(row).zip(packed).enumerate() {
            unpack_row(packed, ty, &mut codes);
            self.dequantize_row(number, &params, &codes, values);
        }
    }

    fn dequantize_row(
        &self,
        number: usize,
        params: impl Fn(usize) -> QuantParams,
        codes: &[i8],
        values: &mut [f32],
    ) {
        if self.groups.is_interleaved() {
            for (channel, (value, &code)) in values.iter_mut().zip(codes).enumerate() {
                *value = params(channel).dequantize(code);
            }
            for (value, minimum) in values.iter_mut().zip(self.minimums()) {
                *value += minimum;
            }
            return;
        }
        for Group { index, elements } in self.groups.runs_in_row(number, codes.len()) {
            let values = &mut values[elements.clone()];
            self.dequantize_run(index, params(index), &codes[elements], values);
        }
    }

    fn dequantize_run(&self, group: usize, params: QuantParams, codes: &[i8], values: &mut [f32]) {
        Kernel::current().dequantize(codes, params, values);
        if let Some(minimum) = self.minimums().get(group) {
            values.iter_mut().for_each(|value| *value += minimum);
        }
    }
}

/// The bytes that codes, scales, and zero points or minimums take in a record, or `None` if `usize`
/// cannot count them.
pub(crate) fn record_lens(
    shape: &[usize],
    scheme: QuantizationScheme,
    groups: usize,
) -> Option<[usize; 3]> {
    let codes = packing::dense_bytes(shape, scheme.quantization_type())?;
    let scales = groups.checked_mul(scheme.scale_type().bytes())?;
    let offsets = match scheme.mapping() {
        Mapping::Symmetric | Mapping::FullRange => 0,
        Mapping::Affine => groups,
        Mapping::Minimum => scales,
    };
    Some([codes, scales, offsets])
}

/// The length of a row: of the last axis, or 1 for a scalar.
fn row_len(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

/// From the values of a group to codes.
trait Coder {
    fn one(&self, group: usize, value: f32) -> i8;

    fn run(&self, group: usize, values: &[f32], codes: &mut [i8]);
}

/// With a scale and a zero point for each group, if only 0.
struct OverZeroPoints<'a> {
    grid: Grid,
    params: &'a [QuantParams],
}

impl Coder for OverZeroPoints<'_> {
    #[inline]
    fn one(&self, group: usize, value: f32) -> i8 {
        self.grid.quantize(value, self.params[group])
    }

    #[inline]
    fn run(&self, group: usize, values: &[f32], codes: &mut [i8]) {
        let quantization = Quantization::new(self.params[group], self.grid);
        Kernel::current().quantize(values, quantization, codes);
    }
}

/// With a scale and a minimum for each group.
struct OverMinimums<'a> {
    grid: Grid,
    params: &'a [MinimumParams],
}

impl Coder for OverMinimums<'_> {
    #[inline]
    fn one(&self, group: usize, value: f32) -> i8 {
        self.grid.quantize_over_minimum(value, self.params[group])
    }

    #[inline]
    fn run(&self, group: usize, values: &[f32], codes: &mut [i8]) {
        let (grid, params) = (self.grid, self.params[group]);
        for (code, &value) in codes.iter_mut().zip(values) {
            *code = grid.quantize_over_minimum(value, params);
        }
    }
}

/// The packed codes of `values`.
fn quantize_rows(
    shape: &[usize],
    scheme: QuantizationScheme,
    groups: Groups,
    values: &[f32],
    coder: &impl Coder,
) -> Vec<u8> {
    // A row of an empty tensor may have any length, so no buffer is allocated for it.
    if values.is_empty() {
        return Vec::new();
    }
    let row = row_len(shape).max(1);
    if scheme.quantization_type().storage_bits() == 8 && !groups.is_interleaved() {
        let mut codes = alloc::vec![0i8; values.len()];
        for Group { index, elements } in groups.runs() {
            coder.run(index, &values[elements.clone()], &mut codes[elements]);
        }
        return bytemuck::cast_vec(codes);
    }
    let bytes = packing::row_bytes(row, scheme.quantization_type());
    let mut packed = alloc::vec![0u8; values.len() / row * bytes];
    let mut codes = alloc::vec![0i8; row];
    for (number, (values, packed)) in values.chunks(row).zip(packed.chunks_mut(bytes)).enumerate() {
        quantize_row(groups, number, values, coder, &mut codes);
        pack_row(&codes, scheme.quantization_type(), packed);
    }
    packed
}

fn quantize_row(
    groups: Groups,
    number: usize,
    values: &[f32],
    coder: &impl Coder,
    codes: &mut [i8],
) {
    if groups.is_interleaved() {
        for (channel, (code, &value)) in codes.iter_mut().zip(values).enumerate() {
            *code = coder.one(channel, value);
        }
        return;
    }
    for Group { index, elements } in groups.runs_in_row(number, values.len()) {
        coder.run(index, &values[elements.clone()], &mut codes[elements]);
    }
}

/// The bit width of codes that share a byte, or `None` if each code has its own.
fn sub_byte(ty: QuantizationType) -> Option<BitWidth> {
    match ty.storage_bits() {
        4 => Some(BitWidth::Four),
        2 => Some(BitWidth::Two),
        _ => None,
    }
}

fn pack_row(codes: &[i8], ty: QuantizationType, packed: &mut [u8]) {
    match sub_byte(ty) {
        Some(width) => Kernel::current().pack(width, codes, packed),
        None => packed.copy_from_slice(bytemuck::cast_slice(codes)),
    }
}

fn unpack_row(packed: &[u8], ty: QuantizationType, codes: &mut [i8]) {
    match sub_byte(ty) {
        Some(width) => Kernel::current().unpack(width, packed, codes),
        None => codes.copy_from_slice(bytemuck::cast_slice(packed)),
    }
}

/// Checks scales against the scheme and the number of groups.
fn check_scales(
    groups: usize,
    scheme: QuantizationScheme,
    scales: &[f32],
) -> Result<(), TensorError> {
    if scales.len() != groups {
        return Err(TensorError::ScaleCount { expected: groups, found: scales.len() });
    }
    let stored_as = scheme.scale_type();
    if scheme.mapping().has_positive_scales() {
        return match scales.iter().position(|&scale| !stored_as.holds(scale)) {
            Some(group) => Err(TensorError::Scale { group, scale: scales[group], stored_as }),
            None => Ok(()),
        };
    }
    match scales.iter().position(|&scale| !stored_as.holds_finite(scale)) {
        Some(group) => Err(TensorError::SignedScale { group, scale: scales[group], stored_as }),
        None => Ok(()),
    }
}

fn check_offsets(
    groups: usize,
    scheme: QuantizationScheme,
    offsets: &Offsets,
) -> Result<(), TensorError> {
    let (zero_points, minimums): (&[i8], &[f32]) = match offsets {
        Offsets::ZeroPoints(zero_points) => (zero_points, &[]),
        Offsets::Minimums(minimums) => (&[], minimums),
    };
    check_zero_points(groups, scheme, zero_points)?;
    check_minimums(groups, scheme, minimums)
}

fn check_minimums(
    groups: usize,
    scheme: QuantizationScheme,
    minimums: &[f32],
) -> Result<(), TensorError> {
    let expected = if scheme.mapping().has_minimums() { groups } else { 0 };
    if minimums.len() != expected {
        return Err(TensorError::MinimumCount { expected, found: minimums.len() });
    }
    let stored_as = scheme.scale_type();
    match minimums.iter().position(|&minimum| !stored_as.holds_finite(minimum)) {
        Some(group) => Err(TensorError::Minimum { group, minimum: minimums[group], stored_as }),
        None => Ok(()),
    }
}

fn check_zero_points(
    groups: usize,
    scheme: QuantizationScheme,
    zero_points: &[i8],
) -> Result<(), TensorError> {
    let expected = if scheme.mapping().has_zero_points() { groups } else { 0 };
    if zero_points.len() != expected {
        return Err(TensorError::ZeroPointCount { expected, found: zero_points.len() });
    }
    let codes = code_range(scheme);
    match zero_points.iter().position(|&z| !codes.contains(&i32::from(z))) {
        Some(group) => Err(TensorError::ZeroPoint { group, zero_point: zero_points[group] }),
        None => Ok(()),
    }
}

fn code_range(scheme: QuantizationScheme) -> Range<i32> {
    let (qmin, qmax) = scheme.grid().code_range();
    qmin..qmax + 1
}

/// Checks the packed codes: their number, their range, their padding.
fn check_codes(
    shape: &[usize],
    scheme: QuantizationScheme,
    codes: &[u8],
) -> Result<(), TensorError> {
    let ty = scheme.quantization_type();
    let expected = packing::packed_bytes(shape, ty).unwrap_or(usize::MAX);
    if codes.len() != expected {
        return Err(TensorError::CodeBytes { expected, found: codes.len() });
    }
    if let Some(byte) = packing::first_dirty_padding(codes, shape, ty) {
        return Err(TensorError::Padding { byte });
    }
    match first_outside(codes, scheme) {
        Some(byte) => Err(TensorError::Code { byte, scheme }),
        None => Ok(()),
    }
}

/// The first byte with a code outside of the scheme's range.
fn first_outside(codes: &[u8], scheme: QuantizationScheme) -> Option<usize> {
    match scheme.quantization_type().storage_bits() {
        8 => first_outside_of::<8>(codes, code_range(scheme)),
        4 => first_outside_of::<4>(codes, code_range(scheme)),
        _ => first_outside_of::<2>(codes, code_range(scheme)),
    }
}

/// Every loaded record passes here. The search finds a chunk first, by a maximum that compilers
/// vectorize, and a byte only within that chunk.
fn first_outside_of<const BITS: u32>(codes: &[u8], range: Range<i32>) -> Option<usize> {
    const CHUNK: usize = 4096;
    let (sign, mask) = (1u8 << (BITS - 1), 0xFF >> (8 - BITS));
    // With the sign bit flipped, codes order as unsigned numbers.
    let least = (range.start as u8 & mask) ^ sign;
    let span = (range.end - 1 - range.start) as u8;
    let distance = |byte: u8| {
        (0..8 / BITS).fold(0, |most: u8, i| {
            let code = (byte >> (i * BITS)) & mask;
            most.max((code ^ sign).wrapping_sub(least))
        })
    };
    let chunk = codes.chunks(CHUNK).position(|chunk| {
        chunk.iter().fold(0, |most: u8, &byte| most.max(distance(byte))) > span
    })?;
    let start = chunk * CHUNK;
    let within = codes[start..].iter().position(|&byte| distance(byte) > span)?;
    Some(start + within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::{QuantizationType, ScaleType};

    #[test]
    fn half_precision_scales_are_the_positive_normal_ones() {
        for bits in 0..=u16::MAX {
            let scale = crate::scheme::f16_to_f32(bits);
            let normal = (0x0400..0x7C00).contains(&bits);
            assert_eq!(ScaleType::F16.holds(scale), normal, "{bits:#06x}");
            let between = f32::from_bits(scale.to_bits() | 1);
            assert!(!ScaleType::F16.holds(between), "{bits:#06x}");
        }
    }

    #[test]
    fn codes_outside_of_the_range_are_found_wherever_they_are() {
        for ty in QuantizationType::ALL {
            for mapping in Mapping::ALL {
                let scheme =
                    QuantizationScheme::new(ty, mapping, crate::scheme::Granularity::PerTensor);
                let per_byte = (8 / ty.storage_bits()) as usize;
                for byte in 0..=u8::MAX {
                    let inside = (0..per_byte).all(|i| {
                        let code = packing::unpack_one(&[byte], i, ty);
                        code_range(scheme).contains(&i32::from(code))
                    });
                    for position in [0, 1, 4095, 4096, 4999] {
                        let mut codes = alloc::vec![0; 5000];
                        codes[position] = byte;
                        let found = first_outside(&codes, scheme);
                        assert_eq!(found, (!inside).then_some(position), "{scheme} {byte:#x}");
                    }
                }
            }
        }
    }
}
