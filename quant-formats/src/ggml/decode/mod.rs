//! Blocks to floats.
//!
//! Each function computes what `gguf.quants.dequantize` of the Python package `gguf` computes, with
//! the same roundings in the same order; tests compare every bit.

mod codebook;
mod codebooks;
mod k_quants;
mod plain;
mod small;
mod ternary;

use quant::scheme::f16_to_f32;

use super::types::GgufType;
use plain::one;

/// Decodes whole blocks: each [`block_bytes`](GgufType::block_bytes) of `bytes` become
/// [`block_len`](GgufType::block_len) of `values`.
pub(crate) fn decode(ty: GgufType, bytes: &[u8], values: &mut [f32]) {
    match ty {
        GgufType::F32 => each(bytes, values, one(f32::from_le_bytes)),
        GgufType::F16 => each(bytes, values, one(plain::f16)),
        GgufType::BF16 => each(bytes, values, one(plain::bf16)),
        GgufType::F64 => each(bytes, values, one(plain::f64)),
        GgufType::I8 => each(bytes, values, one(|it| i8::from_le_bytes(it).into())),
        GgufType::I16 => each(bytes, values, one(|it| i16::from_le_bytes(it).into())),
        GgufType::I32 => each(bytes, values, one(|it| i32::from_le_bytes(it) as f32)),
        GgufType::I64 => each(bytes, values, one(|it| i64::from_le_bytes(it) as f32)),
        GgufType::Q1_0 => each(bytes, values, small::q1_0),
        GgufType::Q2_0 => each(bytes, values, small::q2_0),
        GgufType::Q4_0 => each(bytes, values, small::q4_0),
        GgufType::Q4_1 => each(bytes, values, small::q4_1),
        GgufType::Q5_0 => each(bytes, values, small::q5_0),
        GgufType::Q5_1 => each(bytes, values, small::q5_1),
        GgufType::Q8_0 => each(bytes, values, small::q8_0),
        GgufType::MXFP4 => each(bytes, values, small::mxfp4),
        GgufType::NVFP4 => each(bytes, values, small::nvfp4),
        GgufType::IQ4_NL => each(bytes, values, small::iq4_nl),
        GgufType::IQ4_XS => each(bytes, values, small::iq4_xs),
        GgufType::Q2_K => each(bytes, values, k_quants::q2_k),
        GgufType::Q3_K => each(bytes, values, k_quants::q3_k),
        GgufType::Q4_K => each(bytes, values, k_quants::q4_k),
        GgufType::Q5_K => each(bytes, values, k_quants::q5_k),
        GgufType::Q6_K => each(bytes, values, k_quants::q6_k),
        GgufType::Q8_K => each(bytes, values, k_quants::q8_k),
        GgufType::TQ1_0 => each(bytes, values, ternary::tq1_0),
        GgufType::TQ2_0 => each(bytes, values, ternary::tq2_0),
        GgufType::IQ1_S => each(bytes, values, codebook::iq1_s),
        GgufType::IQ1_M => each(bytes, values, codebook::iq1_m),
        GgufType::IQ2_XXS => each(bytes, values, codebook::iq2_xxs),
        GgufType::IQ2_XS => each(bytes, values, codebook::iq2_xs),
        GgufType::IQ2_S => each(bytes, values, codebook::iq2_s),
        GgufType::IQ3_XXS => each(bytes, values, codebook::iq3_xxs),
        GgufType::IQ3_S => each(bytes, values, codebook::iq3_s),
    }
}

/// Decodes block after block.
fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    values: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, values) = (bytes.as_chunks().0, values.as_chunks_mut().0);
    blocks.iter().zip(values).for_each(|(bytes, values)| block(bytes, values));
}

/// Reads fields of a block, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next bytes. Blocks have a fixed length, so that they do not run out.
    fn bytes<const N: usize>(&mut self) -> &'a [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("a field of the block");
        self.0 = rest;
        field
    }

    /// The next number in half precision.
    fn half(&mut self) -> f32 {
        f16_to_f32(u16::from_le_bytes(*self.bytes()))
    }
}

/// The two numbers of 4 bits of a byte, the low one first.
fn nibbles(byte: u8) -> [u8; 2] {
    [byte & 15, byte >> 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_decoder_of_its_block() {
        for &ty in GgufType::ALL {
            let mut values = vec![f32::NAN; 2 * ty.block_len()];
            decode(ty, &vec![0; 2 * ty.block_bytes()], &mut values);
            assert!(values.iter().all(|value| value.is_finite()), "{ty}");
        }
    }
}
