//! Blocks that a scheme describes: to codes and scales, and back, without a change of any value.
//!
//! The numerics compute the same from both. `Q8_0`, `Q4_0` and `Q5_0` are full-range codes, because
//! files have scales of either sign and the least code; `Q4_1` and `Q5_1` have minimums.

use quant::QuantizationScheme;
use quant::QuantizationType;
use quant::scheme::{Block, Granularity, Mapping, ScaleType, f16_to_f32, f32_to_f16};
use quant::tensor::{QuantizedTensor, TensorError};

use super::types::GgufType;

/// The number of values of a block, for all of these types.
const LEN: usize = 32;

impl GgufType {
    /// The scheme of the codes and scales of these blocks, if one describes them exactly.
    ///
    /// ```
    /// use quant_formats::GgufType;
    ///
    /// let scheme = GgufType::Q4_0.scheme().unwrap();
    /// assert_eq!(scheme.to_string(), "per-block-full-range-int4:scale=f16");
    /// assert_eq!(GgufType::Q4_K.scheme(), None);
    /// ```
    pub const fn scheme(self) -> Option<QuantizationScheme> {
        use QuantizationScheme::{PerBlockFullRange, PerBlockMinimum};
        use QuantizationType::{QInt4, QInt5, QInt8};
        let block = Block::DEFAULT.with_f16_scales();
        Some(match self {
            Self::Q8_0 => PerBlockFullRange(QInt8, block),
            Self::Q5_0 => PerBlockFullRange(QInt5, block),
            Self::Q4_0 => PerBlockFullRange(QInt4, block),
            Self::Q5_1 => PerBlockMinimum(QInt5, block),
            Self::Q4_1 => PerBlockMinimum(QInt4, block),
            _ => return None,
        })
    }
}

/// The type of the blocks that hold tensors of a scheme exactly.
pub(crate) fn type_of_scheme(scheme: QuantizationScheme) -> Option<GgufType> {
    let Granularity::PerBlock(block) = scheme.granularity() else { return None };
    if block.len() != LEN || block.scale_type() != ScaleType::F16 {
        return None;
    }
    match (scheme.quantization_type(), scheme.mapping()) {
        (QuantizationType::QInt8, Mapping::Symmetric | Mapping::FullRange) => Some(GgufType::Q8_0),
        (QuantizationType::QInt5, Mapping::Symmetric | Mapping::FullRange) => Some(GgufType::Q5_0),
        (QuantizationType::QInt4, Mapping::Symmetric | Mapping::FullRange) => Some(GgufType::Q4_0),
        (QuantizationType::QInt5, Mapping::Minimum) => Some(GgufType::Q5_1),
        (QuantizationType::QInt4, Mapping::Minimum) => Some(GgufType::Q4_1),
        _ => None,
    }
}

/// The tensor of blocks of a type that has a [scheme](GgufType::scheme).
pub(crate) fn blocks_to_tensor(
    ty: GgufType,
    scheme: QuantizationScheme,
    shape: &[usize],
    bytes: &[u8],
) -> Result<QuantizedTensor, TensorError> {
    let (mut codes, mut scales, mut minimums) = (Vec::new(), Vec::new(), Vec::new());
    let count = bytes.len() / ty.block_bytes();
    codes.reserve_exact(count * LEN * scheme.quantization_type().storage_bits() as usize / 8);
    scales.reserve_exact(count);
    for block in bytes.chunks_exact(ty.block_bytes()) {
        let (scale, mut rest) = half(block);
        scales.push(scale);
        if scheme.mapping() == Mapping::Minimum {
            let (minimum, after) = half(rest);
            minimums.push(minimum);
            rest = after;
        }
        put_codes(scheme.quantization_type(), rest, &mut codes);
    }
    match scheme.mapping() {
        Mapping::Minimum => QuantizedTensor::with_minimums(shape, scheme, codes, scales, minimums),
        _ => QuantizedTensor::from_parts(shape, scheme, codes, scales, vec![]),
    }
}

/// The blocks of a tensor whose rows are multiples of 32 and whose scheme [has](type_of_scheme) a
/// type.
pub(crate) fn tensor_to_blocks(tensor: &QuantizedTensor) -> Vec<u8> {
    let ty = tensor.scheme().quantization_type();
    let len = LEN * ty.storage_bits() as usize / 8;
    let codes = tensor.packed_codes().chunks_exact(len);
    let mut bytes = Vec::new();
    for (block, (codes, &scale)) in codes.zip(tensor.scales()).enumerate() {
        bytes.extend(f32_to_f16(scale).to_le_bytes());
        if let Some(&minimum) = tensor.minimums().get(block) {
            bytes.extend(f32_to_f16(minimum).to_le_bytes());
        }
        put_block(ty, codes, &mut bytes);
    }
    bytes
}

/// The number in half precision at the start of a block, and what follows.
fn half(block: &[u8]) -> (f32, &[u8]) {
    let (bits, rest) = block.split_first_chunk().expect("blocks start with a scale");
    (f16_to_f32(u16::from_le_bytes(*bits)), rest)
}

/// Appends the codes of a block as a tensor has them in memory.
///
/// Codes of a block count from the least one, and a tensor has two's complement: the top bit differs.
/// Of codes that share a byte, a block has one of each half, and a tensor two neighbours.
fn put_codes(ty: QuantizationType, block: &[u8], codes: &mut Vec<u8>) {
    match ty {
        QuantizationType::QInt4 => {
            let all = four_bits(block);
            codes.extend(all.chunks_exact(2).map(|pair| (pair[0] | pair[1] << 4) ^ 0x88));
        }
        QuantizationType::QInt5 => {
            let (fifth, low) = block.split_first_chunk().expect("five bits have their top apart");
            let (fifth, low) = (u32::from_le_bytes(*fifth), four_bits(low));
            let code = |i: usize| low[i] | ((fifth >> i & 1) as u8) << 4;
            codes.extend((0..LEN).map(|i| code(i).wrapping_sub(16)));
        }
        _ => codes.extend(block),
    }
}

/// The inverse of [`put_codes`].
fn put_block(ty: QuantizationType, codes: &[u8], block: &mut Vec<u8>) {
    match ty {
        QuantizationType::QInt4 => {
            let code = |i: usize| (codes[i / 2] ^ 0x88) >> (4 * (i % 2)) & 15;
            block.extend((0..LEN / 2).map(|i| code(i) | code(i + LEN / 2) << 4));
        }
        QuantizationType::QInt5 => {
            let code = |i: usize| codes[i].wrapping_add(16);
            let fifth = (0..LEN).fold(0, |bits, i| bits | u32::from(code(i) >> 4 & 1) << i);
            block.extend(fifth.to_le_bytes());
            block.extend((0..LEN / 2).map(|i| code(i) & 15 | (code(i + LEN / 2) & 15) << 4));
        }
        _ => block.extend(codes),
    }
}

/// The codes of 16 bytes: the low halves, then the high halves.
fn four_bits(bytes: &[u8]) -> [u8; LEN] {
    std::array::from_fn(|i| bytes[i % 16] >> (i / 16 * 4) & 15)
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::*;

    #[test]
    fn blocks_become_tensors_of_the_same_values_and_come_back() {
        for &ty in GgufType::ALL {
            let Some(scheme) = ty.scheme() else { continue };
            assert_eq!(type_of_scheme(scheme), Some(ty));
            let mut bytes: Vec<u8> = (0..6 * ty.block_bytes()).map(|i| (i * 37) as u8).collect();
            // Scales and minimums: negative, subnormal, and both zeros.
            let halves = [0x3C00u16, 0xBC00, 0x0001, 0x8001, 0x0000, 0x8000];
            for (block, bits) in bytes.chunks_exact_mut(ty.block_bytes()).zip(halves) {
                block[..2].copy_from_slice(&bits.to_le_bytes());
                if scheme.mapping() == Mapping::Minimum {
                    block[2..4].copy_from_slice(&bits.rotate_left(1).to_le_bytes());
                }
            }
            let tensor = blocks_to_tensor(ty, scheme, &[3, 64], &bytes).unwrap();
            let mut values = [0.0; 6 * LEN];
            decode(ty, &bytes, &mut values);
            let bits = |values: &[f32]| values.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&tensor.dequantize()), bits(&values), "{ty}");
            assert_eq!(tensor_to_blocks(&tensor), bytes, "{ty}");
        }
    }

    #[test]
    fn scales_that_are_not_finite_are_errors() {
        for &ty in GgufType::ALL {
            let Some(scheme) = ty.scheme() else { continue };
            for bits in [0x7C00u16, 0xFC00, 0x7E00] {
                let mut bytes = vec![0; ty.block_bytes()];
                bytes[..2].copy_from_slice(&bits.to_le_bytes());
                blocks_to_tensor(ty, scheme, &[32], &bytes).unwrap_err();
            }
        }
    }

    #[test]
    fn schemes_of_other_blocks_have_no_type() {
        for name in [
            "per-tensor-full-range-int8",
            "per-block-full-range-int8",
            "per-block-full-range-int8:len=64:scale=f16",
            "per-block-full-range-int8:scale=bf16",
            "per-block-affine-int8:scale=f16",
            "per-block-minimum-int8:scale=f16",
            "per-block-full-range-int6:scale=f16",
        ] {
            assert_eq!(type_of_scheme(name.parse().unwrap()), None, "{name}");
        }
        let symmetric = "per-block-symmetric-int4:scale=f16".parse().unwrap();
        assert_eq!(type_of_scheme(symmetric), Some(GgufType::Q4_0));
    }
}
