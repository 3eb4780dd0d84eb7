//! Quantization schemes as numbers in the header.

use serde::{Deserialize, Serialize};

use crate::scheme::{
    Axis, Block, Granularity, Mapping, QuantizationScheme, QuantizationType, ScaleType,
};

/// How the values of a tensor are stored: a scheme as numbers, or all zeros for float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Encoding {
    /// 0: float32; 1: quantized.
    kind: u8,
    /// 2 to 8.
    bits: u8,
    /// 0: symmetric; 1: affine.
    mapping: u8,
    /// 0: per tensor; 1: per channel; 2: per block.
    granularity: u8,
    /// 0: float32; 1: float16, for blocks only.
    scale_type: u8,
    /// The channel axis of the scheme; a negative axis counts from the end.
    axis: i32,
    /// The block length, at least 1.
    block: u32,
}

/// A field of an [`Encoding`] with an undefined value.
pub(crate) struct BadField {
    pub(crate) field: &'static str,
    pub(crate) value: i64,
}

impl Encoding {
    /// The encoding of a scheme, or of float32.
    pub(crate) fn of(scheme: Option<QuantizationScheme>) -> Self {
        let Some(scheme) = scheme else { return Self::default() };
        let mut encoding = Self {
            kind: 1,
            bits: scheme.quantization_type().bits() as u8,
            mapping: matches!(scheme.mapping(), Mapping::Affine).into(),
            scale_type: matches!(scheme.scale_type(), ScaleType::F16).into(),
            ..Self::default()
        };
        match scheme.granularity() {
            Granularity::PerTensor => {}
            Granularity::PerChannel(axis) => {
                encoding.granularity = 1;
                encoding.axis = axis.index();
            }
            Granularity::PerBlock(block) => {
                encoding.granularity = 2;
                encoding.block = block.len() as u32;
            }
            // `quant-kernels` is pinned to this version, which has no others.
            _ => unreachable!("a granularity without an encoding"),
        }
        encoding
    }

    /// The scheme, or `None` for float32.
    pub(crate) fn scheme(self) -> Result<Option<QuantizationScheme>, BadField> {
        let scheme = match self.kind {
            0 => None,
            1 => Some(QuantizationScheme::new(
                self.quantization_type()?,
                self.mapping()?,
                self.granularity()?,
            )),
            _ => return Err(bad("kind", self.kind)),
        };
        match self.first_difference(Self::of(scheme)) {
            // Unused fields are zero, so that a scheme has exactly one encoding.
            Some(field) => Err(field),
            None => Ok(scheme),
        }
    }

    fn quantization_type(self) -> Result<QuantizationType, BadField> {
        QuantizationType::from_bits(self.bits.into()).ok_or(bad("bits", self.bits))
    }

    fn mapping(self) -> Result<Mapping, BadField> {
        match self.mapping {
            0 => Ok(Mapping::Symmetric),
            1 => Ok(Mapping::Affine),
            other => Err(bad("mapping", other)),
        }
    }

    fn granularity(self) -> Result<Granularity, BadField> {
        match self.granularity {
            0 => Ok(Granularity::PerTensor),
            1 => Ok(Granularity::PerChannel(Axis::new(self.axis))),
            2 => self.blocks().map(Granularity::PerBlock),
            other => Err(bad("granularity", other)),
        }
    }

    fn blocks(self) -> Result<Block, BadField> {
        let block = Block::new(self.block).ok_or(bad("block length", self.block))?;
        match self.scale_type {
            0 => Ok(block),
            1 => Ok(block.with_f16_scales()),
            other => Err(bad("scale type", other)),
        }
    }

    fn first_difference(self, other: Self) -> Option<BadField> {
        let differs: [(&'static str, i64, i64); 6] = [
            ("bits", self.bits.into(), other.bits.into()),
            ("mapping", self.mapping.into(), other.mapping.into()),
            ("granularity", self.granularity.into(), other.granularity.into()),
            ("scale type", self.scale_type.into(), other.scale_type.into()),
            ("axis", self.axis.into(), other.axis.into()),
            ("block length", self.block.into(), other.block.into()),
        ];
        let (field, value, _) = differs.into_iter().find(|(_, own, other)| own != other)?;
        Some(BadField { field, value })
    }
}

fn bad(field: &'static str, value: impl Into<i64>) -> BadField {
    BadField { field, value: value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_round_trips() {
        for name in [
            "per-tensor-symmetric-int8",
            "per-tensor-affine-int7",
            "per-channel-symmetric-int6:axis=3",
            "per-channel-affine-int5:axis=-2",
            "per-block-symmetric-int4:len=1",
            "per-block-affine-int3:len=2147483647",
            "per-block-affine-int2:len=64:scale=f16",
        ] {
            let scheme: QuantizationScheme = name.parse().unwrap();
            assert_eq!(Encoding::of(Some(scheme)).scheme().ok(), Some(Some(scheme)), "{name}");
        }
        assert!(matches!(Encoding::default().scheme(), Ok(None)));
    }

    #[test]
    fn rejects_undefined_values() {
        let int8 = Encoding { kind: 1, bits: 8, ..Encoding::default() };
        let block = Encoding { granularity: 2, block: 32, ..int8 };
        for (encoding, field) in [
            (Encoding { kind: 2, ..int8 }, "kind"),
            (Encoding { bits: 1, ..int8 }, "bits"),
            (Encoding { bits: 9, ..int8 }, "bits"),
            (Encoding { kind: 0, ..int8 }, "bits"),
            (Encoding { mapping: 2, ..int8 }, "mapping"),
            (Encoding { granularity: 3, ..int8 }, "granularity"),
            (Encoding { scale_type: 1, ..int8 }, "scale type"),
            (Encoding { scale_type: 2, ..block }, "scale type"),
            (Encoding { axis: 1, ..int8 }, "axis"),
            (Encoding { axis: 1, ..block }, "axis"),
            (Encoding { block: 1, ..int8 }, "block length"),
            (Encoding { block: 0, ..block }, "block length"),
        ] {
            assert_eq!(encoding.scheme().err().map(|bad| bad.field), Some(field), "{encoding:?}");
        }
    }
}
