//! Tensors in place, and what is checked of them.

use core::ops::Deref;

use quant_kernels::scheme::{Groups, Mapping, QuantParams, QuantizationScheme};

use crate::codes::{CodeLayout, Codes};
use crate::encoding::{Stored, Version};
use crate::error::RecordError;
use crate::floats::{FloatType, Floats};
use crate::limits::RANK_LIMIT;

/// The extents of the axes of a tensor, outermost first; a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    extents: [usize; RANK_LIMIT],
    rank: usize,
}

impl Shape {
    /// From 8 bytes for each extent.
    fn decode<'a>(name: &'a str, extents: &[u8]) -> Result<Self, RecordError<'a>> {
        let (encoded, _) = extents.as_chunks();
        let rank = encoded.len();
        let mut shape = Self { extents: [0; RANK_LIMIT], rank };
        let Some(extents) = shape.extents.get_mut(..rank) else {
            return Err(RecordError::TooManyAxes { name, rank });
        };
        // The product is that of all extents with each 0 counted as 1.
        let mut product = 1usize;
        for (extent, encoded) in extents.iter_mut().zip(encoded) {
            let wide = usize::try_from(u64::from_le_bytes(*encoded)).ok();
            let next = wide.and_then(|wide| Some((wide, product.checked_mul(wide.max(1))?)));
            (*extent, product) = next.ok_or(RecordError::Shape { name })?;
        }
        Ok(shape)
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.extents[..self.rank]
    }
}

/// A tensor of a record.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    name: &'a str,
    shape: Shape,
    values: Values<'a>,
}

/// The values of a tensor.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Floats in row-major order.
    Float(Floats<'a>),
    /// Codes, and what they stand for.
    Quantized(Quantized<'a>),
}

/// The codes of a tensor with their scales and zero points or minimums.
#[derive(Clone, Copy, Debug)]
pub struct Quantized<'a> {
    scheme: QuantizationScheme,
    groups: Groups,
    codes: Codes<'a>,
    scales: Floats<'a>,
    offsets: &'a [u8],
}

/// A tensor as its entry describes it, without the bytes of its sections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout<'a> {
    name: &'a str,
    shape: Shape,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Float(FloatType),
    Quantized(QuantizationScheme, Groups, CodeLayout),
}

impl<'a> Layout<'a> {
    pub(crate) fn new(
        name: &'a str,
        extents: &[u8],
        stored: Stored,
        version: Version,
    ) -> Result<Self, RecordError<'a>> {
        let shape = Shape::decode(name, extents)?;
        let quantized = |scheme: QuantizationScheme| {
            let groups = Groups::of(&shape, scheme.granularity())?;
            let codes = CodeLayout::new(&shape, scheme.quantization_type(), version)?;
            Some(Form::Quantized(scheme, groups, codes))
        };
        let form = match stored {
            Stored::Float(ty) => Form::Float(ty),
            Stored::Quantized(scheme) => quantized(scheme).ok_or(RecordError::Shape { name })?,
        };
        Ok(Self { name, shape, form })
    }

    /// The lengths of values, scales, and zero points or minimums, in bytes.
    pub(crate) fn section_lens(&self) -> Result<[usize; 3], RecordError<'a>> {
        let lens = || match self.form {
            Form::Float(ty) => {
                // An extent of 0 leaves no elements.
                let count: usize = self.shape.iter().product();
                Some([count.checked_mul(ty.bytes())?, 0, 0])
            }
            Form::Quantized(scheme, groups, codes) => {
                let scales = groups.count().checked_mul(scheme.scale_type().bytes())?;
                let offsets = match scheme.mapping() {
                    Mapping::Symmetric | Mapping::FullRange => 0,
                    Mapping::Affine => groups.count(),
                    Mapping::Minimum => scales,
                };
                Some([codes.byte_count()?, scales, offsets])
            }
        };
        lens().ok_or(RecordError::Shape { name: self.name })
    }

    /// The tensor with the bytes of its sections, which have the lengths of
    /// [`section_lens`](Self::section_lens).
    pub(crate) fn over(self, [values, scales, offsets]: [&'a [u8]; 3]) -> Tensor<'a> {
        let Self { name, shape, form } = self;
        let values = match form {
            Form::Float(ty) => Values::Float(Floats::new(ty, values)),
            Form::Quantized(scheme, groups, codes) => {
                let scales = Floats::new(FloatType::of_scales(scheme.scale_type()), scales);
                let codes = codes.over(values);
                Values::Quantized(Quantized { scheme, groups, codes, scales, offsets })
            }
        };
        Tensor { name, shape, values }
    }
}

impl<'a> Tensor<'a> {
    /// The name, a path such as `layers.0.weight`.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The extents of the axes.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The number of elements.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The values.
    pub const fn values(&self) -> &Values<'a> {
        &self.values
    }

    /// The floats, or `None` if the tensor is quantized.
    pub const fn floats(&self) -> Option<Floats<'a>> {
        match self.values {
            Values::Float(floats) => Some(floats),
            Values::Quantized(_) => None,
        }
    }

    /// The codes and scales, or `None` if the tensor is float.
    pub const fn quantized(&self) -> Option<Quantized<'a>> {
        match self.values {
            Values::Float(_) => None,
            Values::Quantized(quantized) => Some(quantized),
        }
    }

    /// The value at a position in row-major order, or `None` after the last one.
    pub fn value(&self, position: usize) -> Option<f32> {
        match &self.values {
            Values::Float(floats) => floats.get(position),
            Values::Quantized(quantized) => quantized.value(position),
        }
    }

    /// The tensor under another name.
    pub(crate) fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }

    /// The bytes of all sections, without padding.
    pub(crate) fn byte_count(&self) -> usize {
        match &self.values {
            Values::Float(floats) => floats.bytes().len(),
            Values::Quantized(Quantized { codes, scales, offsets, .. }) => {
                codes.bytes().len() + scales.bytes().len() + offsets.len()
            }
        }
    }

    /// Checks codes, scales and zero points or minimums.
    pub(crate) fn check(&self) -> Result<(), RecordError<'a>> {
        match &self.values {
            Values::Float(_) => Ok(()),
            Values::Quantized(quantized) => quantized.check(self.name),
        }
    }
}

impl<'a> Quantized<'a> {
    /// The scheme.
    pub const fn scheme(&self) -> QuantizationScheme {
        self.scheme
    }

    /// The codes.
    pub const fn codes(&self) -> Codes<'a> {
        self.codes
    }

    /// A scale for each group.
    pub const fn scales(&self) -> Floats<'a> {
        self.scales
    }

    /// A zero point for each group; empty unless the mapping is affine.
    pub fn zero_points(&self) -> &'a [i8] {
        match self.scheme.mapping() {
            Mapping::Affine => bytemuck::cast_slice(self.offsets),
            _ => &[],
        }
    }

    /// A minimum for each group; empty unless the mapping has minimums.
    pub fn minimums(&self) -> Floats<'a> {
        let minimums = if self.has_minimums() { self.offsets } else { &[] };
        Floats::new(self.scales.float_type(), minimums)
    }

    fn has_minimums(&self) -> bool {
        self.scheme.mapping() == Mapping::Minimum
    }

    /// Which elements share a scale.
    pub const fn groups(&self) -> Groups {
        self.groups
    }

    /// The scale and the zero point of a group; `None` after the last one, and where codes are over
    /// minimums.
    pub fn params(&self, group: usize) -> Option<QuantParams> {
        let scale = self.scales.get(group)?;
        match self.scheme.mapping() {
            Mapping::Minimum => None,
            Mapping::Affine => {
                Some(QuantParams::from_checked(scale, *self.zero_points().get(group)?))
            }
            // `check` has seen the scale.
            Mapping::Symmetric | Mapping::FullRange => Some(QuantParams::from_checked(scale, 0)),
        }
    }

    /// The value at a position in row-major order, or `None` after the last one.
    pub fn value(&self, position: usize) -> Option<f32> {
        let row = position.checked_div(self.codes.row_len())?;
        let code = self.codes.row(row)?.get(position % self.codes.row_len())?;
        let group = self.groups.group_of(position);
        if !self.has_minimums() {
            return self.params(group).map(|params| params.dequantize(code));
        }
        let (least, _) = self.scheme.grid().code_range();
        let steps = (i32::from(code) - least) as f32;
        Some(steps * self.scales.get(group)? + self.minimums().get(group)?)
    }

    fn check(&self, name: &'a str) -> Result<(), RecordError<'a>> {
        let (least, greatest) = self.scheme.grid().code_range();
        let is_code = |code: i8| (least..=greatest).contains(&i32::from(code));
        for (row, codes) in self.codes.rows().enumerate() {
            if !codes.has_clean_padding() || !codes.iter().all(is_code) {
                return Err(RecordError::Code { name, row });
            }
        }
        let ty = self.scheme.scale_type();
        let is_positive = self.scheme.mapping().has_positive_scales();
        let is_scale = |s| if is_positive { ty.holds(s) } else { ty.holds_finite(s) };
        if let Some(group) = self.scales.iter().position(|scale| !is_scale(scale)) {
            return Err(RecordError::Scale { name, group });
        }
        let zero_point = self.zero_points().iter().position(|&zero_point| !is_code(zero_point));
        let minimum = self.minimums().iter().position(|minimum| !ty.holds_finite(minimum));
        match zero_point.or(minimum) {
            Some(group) => Err(RecordError::Offset { name, group }),
            None => Ok(()),
        }
    }
}
