//! Quantization schemes as numbers in the header.

use serde::{Deserialize, Serialize};

use super::entry::Stored;
use super::version::RecordVersion;
use crate::scheme::{
    Axis, Block, Granularity, Mapping, QuantizationScheme, QuantizationType, ScaleType, packing,
};
use crate::tensor::FloatType;

/// How the values of a tensor are stored: a scheme as numbers, or zeros but for the kind of float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Encoding {
    /// 0: float32; 1: quantized; 2: float16; 3: bfloat16.
    kind: u8,
    /// 2 to 8.
    bits: u8,
    /// 0: symmetric; 1: affine; 2: full range; 3: minimum.
    mapping: u8,
    /// 0: per tensor; 1: per channel; 2: per block.
    granularity: u8,
    /// 0: float32; 1: float16; 2: bfloat16; the last two for blocks only.
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
    /// The encoding of a scheme or float type.
    pub(crate) fn of(stored: Stored) -> Self {
        match stored {
            Stored::Float(FloatType::F32) => Self::default(),
            Stored::Float(FloatType::F16) => Self { kind: 2, ..Self::default() },
            Stored::Float(FloatType::Bf16) => Self { kind: 3, ..Self::default() },
            Stored::Quantized(scheme) => Self::of_scheme(scheme),
        }
    }

    fn of_scheme(scheme: QuantizationScheme) -> Self {
        let mut encoding = Self {
            kind: 1,
            bits: scheme.quantization_type().bits() as u8,
            mapping: match scheme.mapping() {
                Mapping::Symmetric => 0,
                Mapping::Affine => 1,
                Mapping::FullRange => 2,
                Mapping::Minimum => 3,
            },
            scale_type: match scheme.scale_type() {
                ScaleType::F32 => 0,
                ScaleType::F16 => 1,
                ScaleType::Bf16 => 2,
                // `quant-kernels` is pinned to this version, which has no others.
                _ => unreachable!("a scale type without an encoding"),
            },
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

    /// The scheme or float type, which the version must have.
    pub(crate) fn stored(self, version: RecordVersion) -> Result<Stored, BadField> {
        let stored = match self.kind {
            0 => Stored::Float(FloatType::F32),
            1 => Stored::Quantized(QuantizationScheme::new(
                self.quantization_type()?,
                self.mapping(version)?,
                self.granularity(version)?,
            )),
            2 if version >= RecordVersion::V2 => Stored::Float(FloatType::F16),
            3 if version >= RecordVersion::V2 => Stored::Float(FloatType::Bf16),
            _ => return Err(bad("kind", self.kind)),
        };
        match self.first_difference(Self::of(stored)) {
            // Unused fields are zero, so that a scheme has exactly one encoding.
            Some(field) => Err(field),
            None => Ok(stored),
        }
    }

    /// The version in which a tensor of this encoding is written by default: the oldest one that
    /// stores it in its smallest form.
    pub(crate) fn version(self) -> RecordVersion {
        let ty = QuantizationType::from_bits(self.bits.into());
        let is_new = self.kind > 1 || self.mapping > 1 || self.scale_type > 1;
        if is_new || ty.is_some_and(packing::is_dense_narrower) {
            RecordVersion::V2
        } else {
            RecordVersion::V1
        }
    }

    fn quantization_type(self) -> Result<QuantizationType, BadField> {
        QuantizationType::from_bits(self.bits.into()).ok_or(bad("bits", self.bits))
    }

    fn mapping(self, version: RecordVersion) -> Result<Mapping, BadField> {
        match self.mapping {
            0 => Ok(Mapping::Symmetric),
            1 => Ok(Mapping::Affine),
            2 if version >= RecordVersion::V2 => Ok(Mapping::FullRange),
            3 if version >= RecordVersion::V2 => Ok(Mapping::Minimum),
            other => Err(bad("mapping", other)),
        }
    }

    fn granularity(self, version: RecordVersion) -> Result<Granularity, BadField> {
        match self.granularity {
            0 => Ok(Granularity::PerTensor),
            1 => Ok(Granularity::PerChannel(Axis::new(self.axis))),
            2 => self.blocks(version).map(Granularity::PerBlock),
            other => Err(bad("granularity", other)),
        }
    }

    fn blocks(self, version: RecordVersion) -> Result<Block, BadField> {
        let block = Block::new(self.block).ok_or(bad("block length", self.block))?;
        match self.scale_type {
            0 => Ok(block),
            1 => Ok(block.with_f16_scales()),
            2 if version >= RecordVersion::V2 => Ok(block.with_bf16_scales()),
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
            let stored = Stored::Quantized(scheme);
            for version in [RecordVersion::V1, RecordVersion::V2] {
                assert_eq!(Encoding::of(stored).stored(version).ok(), Some(stored), "{name}");
            }
        }
        assert!(matches!(
            Encoding::default().stored(RecordVersion::V1),
            Ok(Stored::Float(FloatType::F32))
        ));
    }

    #[test]
    fn new_mappings_and_bf16_scales_are_of_version_2() {
        for (name, field) in [
            ("per-tensor-full-range-int8", "mapping"),
            ("per-channel-minimum-int4:axis=-1", "mapping"),
            ("per-block-minimum-int4:scale=f16", "mapping"),
            ("per-block-symmetric-int8:scale=bf16", "scale type"),
        ] {
            let stored = Stored::Quantized(name.parse().unwrap());
            let encoding = Encoding::of(stored);
            assert_eq!(encoding.version(), RecordVersion::V2, "{name}");
            assert_eq!(encoding.stored(RecordVersion::V2).ok(), Some(stored), "{name}");
            let bad = encoding.stored(RecordVersion::V1).err().unwrap();
            assert_eq!(bad.field, field, "{name}");
        }
    }

    #[test]
    fn half_precision_is_of_version_2() {
        for ty in [FloatType::F16, FloatType::Bf16] {
            let encoding = Encoding::of(ty.into());
            assert_eq!(encoding.version(), RecordVersion::V2);
            assert_eq!(encoding.stored(RecordVersion::V2).ok(), Some(Stored::Float(ty)));
            let bad = encoding.stored(RecordVersion::V1).err().unwrap();
            assert_eq!((bad.field, bad.value), ("kind", encoding.kind.into()));
        }
    }

    #[test]
    fn rejects_undefined_values() {
        let int8 = Encoding { kind: 1, bits: 8, ..Encoding::default() };
        let block = Encoding { granularity: 2, block: 32, ..int8 };
        for (encoding, field) in [
            (Encoding { kind: 4, ..int8 }, "kind"),
            (Encoding { kind: 2, ..int8 }, "bits"),
            (Encoding { bits: 1, ..int8 }, "bits"),
            (Encoding { bits: 9, ..int8 }, "bits"),
            (Encoding { kind: 0, ..int8 }, "bits"),
            (Encoding { mapping: 4, ..int8 }, "mapping"),
            (Encoding { granularity: 3, ..int8 }, "granularity"),
            (Encoding { scale_type: 1, ..int8 }, "scale type"),
            (Encoding { scale_type: 3, ..block }, "scale type"),
            (Encoding { axis: 1, ..int8 }, "axis"),
            (Encoding { axis: 1, ..block }, "axis"),
            (Encoding { block: 1, ..int8 }, "block length"),
            (Encoding { block: 0, ..block }, "block length"),
        ] {
            let stored = encoding.stored(RecordVersion::V2);
            assert_eq!(stored.err().map(|bad| bad.field), Some(field), "{encoding:?}");
        }
    }
}
