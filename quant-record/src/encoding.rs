//! How the values of a tensor are stored, from the numbers of its entry.

use quant_kernels::scheme::{
    Axis, Block, Granularity, Mapping, QuantizationScheme, QuantizationType,
};

use crate::bytes::Bytes;
use crate::floats::FloatType;

/// The version of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V1,
    V2,
}

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Float(FloatType),
    Quantized(QuantizationScheme),
}

/// The fields of a tensor entry that say how it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding {
    kind: u8,
    bits: u8,
    mapping: u8,
    granularity: u8,
    scale_type: u8,
    axis: i32,
    block: u32,
}

/// A field with an undefined value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadField {
    pub(crate) field: &'static str,
    pub(crate) value: i64,
}

impl Encoding {
    pub(crate) fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self {
            kind: bytes.u8()?,
            bits: bytes.u8()?,
            mapping: bytes.u8()?,
            granularity: bytes.u8()?,
            scale_type: bytes.u8()?,
            axis: bytes.i32()?,
            block: bytes.u32()?,
        })
    }

    /// The scheme or float type, which the version must have. Unused fields are 0, so that each has
    /// exactly one encoding.
    pub(crate) fn stored(self, version: Version) -> Result<Stored, BadField> {
        let is_new = version >= Version::V2;
        let ty = match self.kind {
            0 => FloatType::F32,
            1 => return self.scheme(is_new).map(Stored::Quantized),
            2 if is_new => FloatType::F16,
            3 if is_new => FloatType::Bf16,
            _ => return Err(bad("kind", self.kind)),
        };
        unused("bits", self.bits)?;
        unused("mapping", self.mapping)?;
        unused("granularity", self.granularity)?;
        unused("scale type", self.scale_type)?;
        unused("axis", self.axis)?;
        unused("block length", self.block)?;
        Ok(Stored::Float(ty))
    }

    fn scheme(self, is_new: bool) -> Result<QuantizationScheme, BadField> {
        let bits = u32::from(self.bits);
        let ty = QuantizationType::from_bits(bits).ok_or(bad("bits", self.bits))?;
        let mapping = match self.mapping {
            0 => Mapping::Symmetric,
            1 => Mapping::Affine,
            2 if is_new => Mapping::FullRange,
            3 if is_new => Mapping::Minimum,
            other => return Err(bad("mapping", other)),
        };
        Ok(QuantizationScheme::new(ty, mapping, self.granularity(is_new)?))
    }

    fn granularity(self, is_new: bool) -> Result<Granularity, BadField> {
        let granularity = match self.granularity {
            0 => Granularity::PerTensor,
            1 => Granularity::PerChannel(Axis::new(self.axis)),
            2 => Granularity::PerBlock(self.blocks(is_new)?),
            other => return Err(bad("granularity", other)),
        };
        if self.granularity != 1 {
            unused("axis", self.axis)?;
        }
        if self.granularity != 2 {
            unused("scale type", self.scale_type)?;
            unused("block length", self.block)?;
        }
        Ok(granularity)
    }

    fn blocks(self, is_new: bool) -> Result<Block, BadField> {
        let block = Block::new(self.block).ok_or(bad("block length", self.block))?;
        match self.scale_type {
            0 => Ok(block),
            1 => Ok(block.with_f16_scales()),
            2 if is_new => Ok(block.with_bf16_scales()),
            other => Err(bad("scale type", other)),
        }
    }
}

fn bad(field: &'static str, value: impl Into<i64>) -> BadField {
    BadField { field, value: value.into() }
}

fn unused(field: &'static str, value: impl Into<i64>) -> Result<(), BadField> {
    match value.into() {
        0 => Ok(()),
        value => Err(BadField { field, value }),
    }
}
