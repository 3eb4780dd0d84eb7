//! Floats among bytes of any alignment.

use quant_kernels::scheme::{ScaleType, bf16_to_f32, f16_to_f32};

/// A float type of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FloatType {
    /// Single precision.
    F32,
    /// Half precision of IEEE 754.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl FloatType {
    /// The bytes of one number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(crate) const fn of_scales(ty: ScaleType) -> Self {
        match ty {
            ScaleType::F16 => Self::F16,
            ScaleType::Bf16 => Self::Bf16,
            // Others do not come out of `encoding`.
            _ => Self::F32,
        }
    }
}

/// Floats in place: little endian, at any address.
#[derive(Clone, Copy, Debug)]
pub struct Floats<'a> {
    ty: FloatType,
    bytes: &'a [u8],
}

impl<'a> Floats<'a> {
    pub(crate) const fn new(ty: FloatType, bytes: &'a [u8]) -> Self {
        Self { ty, bytes }
    }

    /// How they are stored.
    pub const fn float_type(&self) -> FloatType {
        self.ty
    }

    /// Their bytes, as they are stored.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Their number.
    pub const fn len(&self) -> usize {
        self.bytes.len() / self.ty.bytes()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The float at `index`, or `None` after the last one. Half precision becomes single precision
    /// exactly.
    pub fn get(&self, index: usize) -> Option<f32> {
        let at = index.checked_mul(self.ty.bytes())?;
        let rest = self.bytes.get(at..)?;
        let half = || rest.first_chunk().copied().map(u16::from_le_bytes);
        match self.ty {
            FloatType::F32 => rest.first_chunk().copied().map(f32::from_le_bytes),
            FloatType::F16 => half().map(f16_to_f32),
            FloatType::Bf16 => half().map(bf16_to_f32),
        }
    }

    /// The floats in order.
    pub fn iter(&self) -> impl Iterator<Item = f32> + use<'a> {
        let floats = *self;
        (0..floats.len()).map_while(move |index| floats.get(index))
    }
}
