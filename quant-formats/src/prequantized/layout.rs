//! The layouts whose values can be computed.

use quant::{QuantizationScheme, RecordError};

use super::awq::Awq;
use super::bits_and_bytes::{Int8, Tabled};
use super::codes::Codes;
use super::component::{Component, Reader};
use super::config::Config;
use super::fp4::Fp4;
use super::gptq::Gptq;
use super::mlx::Mlx;
use super::packed::Packed;
use super::recognize::Found;
use super::scaled::Scaled;
use super::scheme::{Integers, Sharing};
use crate::method::{Encoding, FloatReason, Method, Refusal};
use crate::safetensors::Dtype;

/// How the values of a quantized tensor are computed from its parts.
#[derive(Debug)]
pub(super) enum Layout {
    Gptq(Gptq),
    Awq(Awq),
    Packed(Packed),
    Scaled(Scaled, Method),
    Fp4(Fp4, Method),
    Mlx(Mlx),
    Tabled(Tabled),
    Int8(Int8),
}

impl Layout {
    /// Checks types and shapes of all parts. No tensor is read but those that hold a shape or name a
    /// variant.
    ///
    /// # Errors
    /// The tensor cannot be read; or the reason why its values cannot be computed.
    pub(super) fn plan(
        found: &Found<'_>,
        config: &Config,
        from: Reader<'_>,
    ) -> Result<Result<Self, Refusal>, RecordError> {
        Ok(match found.method {
            Method::Gptq => Gptq::plan(found, config).map(Self::Gptq),
            Method::Awq => Awq::plan(found, config).map(Self::Awq),
            Method::CompressedTensors if found.codes.is_words() => {
                let shape = match found.need("_shape") {
                    Ok(part) => shape(part, from)?.ok_or_else(|| part.misfit()),
                    Err(missing) => Err(missing),
                };
                shape.and_then(|shape| Packed::plan(found, config, &shape)).map(Self::Packed)
            }
            Method::Fp8 | Method::Mxfp8 | Method::CompressedTensors => {
                Scaled::plan(found, config).map(|it| Self::Scaled(it, found.method))
            }
            Method::Mxfp4 | Method::Nvfp4 => Fp4::plan(found).map(|it| Self::Fp4(it, found.method)),
            Method::Mlx => Mlx::plan(found, config).map(Self::Mlx),
            Method::BitsAndBytes if found.part(".SCB").is_some() => {
                Int8::plan(found, from)?.map(Self::Int8)
            }
            Method::BitsAndBytes => Tabled::plan(found, from)?.map(Self::Tabled),
            _ => Err(Refusal::Unsupported),
        })
    }

    pub(super) fn encoding(&self) -> Encoding {
        let integer = |method, bits: usize| Encoding::new(method, bits as u8);
        match self {
            Self::Gptq(it) => integer(Method::Gptq, it.bits),
            Self::Awq(_) => integer(Method::Awq, 4),
            Self::Packed(it) => integer(Method::CompressedTensors, it.bits),
            Self::Mlx(it) => integer(Method::Mlx, it.bits),
            Self::Scaled(it, method) => Encoding::new(*method, it.is_integer().then_some(8)),
            Self::Fp4(_, method) => Encoding::new(*method, None),
            Self::Tabled(_) => Encoding::new(Method::BitsAndBytes, None),
            Self::Int8(_) => integer(Method::BitsAndBytes, 8),
        }
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Gptq(it) => it.shape(),
            Self::Awq(it) => it.shape(),
            Self::Packed(it) => it.shape(),
            Self::Scaled(it, _) => it.shape(),
            Self::Fp4(it, _) => it.shape(),
            Self::Mlx(it) => it.shape(),
            Self::Tabled(it) => it.shape(),
            Self::Int8(it) => it.shape(),
        }
    }

    /// The scheme that has the codes exactly, or the reason why none has. Zero points and groups are
    /// read; scales only beside zero points that are not 0; codes never.
    pub(super) fn scheme(
        &self,
        from: Reader<'_>,
    ) -> Result<Result<QuantizationScheme, FloatReason>, RecordError> {
        match self.integers(from)? {
            Ok(integers) => integers.scheme(|| self.scales(from)),
            Err(reason) => Ok(Err(reason)),
        }
    }

    fn integers(&self, from: Reader<'_>) -> Result<Result<Integers, FloatReason>, RecordError> {
        match self {
            Self::Gptq(it) => it.integers(from).map(Ok),
            Self::Awq(it) => it.integers(from).map(Ok),
            Self::Packed(it) => it.integers(from).map(Ok),
            Self::Scaled(it, _) => Ok(it.integers(from)?.ok_or(FloatReason::FloatCodes)),
            Self::Fp4(..) => Ok(Err(FloatReason::FloatCodes)),
            Self::Mlx(it) => Ok(it.integers().ok_or(FloatReason::Biases)),
            Self::Tabled(_) => Ok(Err(FloatReason::Table)),
            Self::Int8(_) => Ok(Err(FloatReason::Factors)),
        }
    }

    fn scales(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        match self {
            Self::Gptq(it) => it.scales(from),
            Self::Awq(it) => it.scales(from),
            Self::Packed(it) => it.scales(from),
            Self::Scaled(it, _) => it.scales(from),
            Self::Fp4(..) | Self::Mlx(_) | Self::Tabled(_) | Self::Int8(_) => {
                unreachable!("scales of these are not read")
            }
        }
    }

    /// The codes with columns sorted by group, their scheme, and for each column the position that it
    /// had; `None` if the columns are in the order of their groups, or no scheme has the codes.
    pub(super) fn sorted(
        &self,
        from: Reader<'_>,
    ) -> Result<Option<(Codes, QuantizationScheme, Vec<u32>)>, RecordError> {
        let Ok(integers) = self.integers(from)? else { return Ok(None) };
        if integers.sharing != Sharing::Scattered {
            return Ok(None);
        }
        let Some((codes, order)) = self.codes(from)?.sorted() else { return Ok(None) };
        let sharing = Sharing::of_columns(Some(codes.group_of.clone()));
        let scheme = Integers { sharing, ..integers }.scheme(|| Ok(codes.scales.clone()))?;
        Ok(scheme.ok().map(|scheme| (codes, scheme, order)))
    }

    /// The codes of a tensor that has a [scheme](Self::scheme).
    pub(super) fn codes(&self, from: Reader<'_>) -> Result<Codes, RecordError> {
        match self {
            Self::Gptq(it) => it.read(from),
            Self::Awq(it) => it.read(from),
            Self::Packed(it) => it.read(from),
            Self::Scaled(it, _) => it.codes(from),
            Self::Mlx(it) => it.codes(from),
            Self::Fp4(..) | Self::Tabled(_) | Self::Int8(_) => {
                unreachable!("no scheme has these")
            }
        }
    }

    pub(super) fn values(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        match self {
            Self::Gptq(_) | Self::Awq(_) | Self::Packed(_) => Ok(self.codes(from)?.values()),
            Self::Scaled(it, _) => it.read(from),
            Self::Fp4(it, _) => it.read(from),
            Self::Mlx(it) => it.read(from),
            Self::Tabled(it) => it.read(from),
            Self::Int8(it) => it.read(from),
        }
    }
}

/// The extents that a tensor of type I64 holds, if they are ones.
fn shape(part: &Component, from: Reader<'_>) -> Result<Option<Vec<usize>>, RecordError> {
    if part.dtype != Dtype::I64 || !(2..=3).contains(&part.len()) {
        return Ok(None);
    }
    let bytes = from.bytes(part)?;
    let extents = bytes.chunks_exact(8).map(|it| {
        let extent = i64::from_le_bytes(it.try_into().expect("8 bytes"));
        usize::try_from(extent).ok()
    });
    Ok(extents.collect())
}
