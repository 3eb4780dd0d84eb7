//! Blocks of positions in codebooks of vectors, whose signs and scales are stored apart.

use super::codebooks::{IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};
use super::{Fields, nibbles};
use quant::scheme::f16_to_f32;

/// Magnitudes of vectors of 8 in the codebooks of IQ2.
const IQ2: [f32; 4] = [8.0, 25.0, 43.0, 0.0];

/// Values of vectors of 8 in the codebook of IQ1.
const IQ1: [f32; 4] = [-1.0, 0.0, 1.0, 0.0];

/// What is added to each element of a vector of IQ1, or subtracted.
const IQ1_SHIFT: f32 = 0.125;

/// An element of a vector of 8, of which a codebook has 2 bits.
fn of_eight(vector: u16, values: &[f32; 4], i: usize) -> f32 {
    values[usize::from(vector >> (2 * i) & 3)]
}

/// An element of a vector of 4, of which a codebook has 4 bits.
fn of_four(vector: u16, i: usize) -> u8 {
    (vector >> (4 * i) & 7) as u8
}

/// The sign of an element; its bit is set if it is negative.
fn sign(signs: u8, i: usize) -> f32 {
    if signs >> i & 1 == 1 { -1.0 } else { 1.0 }
}

/// Eight signs, of which seven are stored: the number of negative ones is even.
fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() & 1) as u8) << 7
}

/// Fills a vector of 8 with magnitudes from a codebook of IQ2.
fn put_eight(values: &mut [f32; 8], scale: f32, vector: u16, signs: u8) {
    for (i, value) in values.iter_mut().enumerate() {
        *value = scale * of_eight(vector, &IQ2, i) * sign(signs, i);
    }
}

/// Groups of 32 have their positions in 4 bytes, then four times 7 signs, and a scale of 4 bits.
pub(super) fn iq2_xxs(block: &[u8; 66], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let d = fields.half();
    for values in values.as_chunks_mut::<32>().0 {
        let (positions, rest) = (fields.bytes::<4>(), u32::from_le_bytes(*fields.bytes()));
        let scale = d * (0.5 + (rest >> 28) as f32) * 0.25;
        for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let vector = IQ2_XXS[usize::from(positions[i])];
            put_eight(values, scale, vector, even_signs(rest >> (7 * i)));
        }
    }
}

/// The scale of the vector of 8 at a position: one of 4 bits for every two of them.
fn iq2_scale(d: f32, scales: &[u8; 8], i: usize) -> f32 {
    d * (0.5 + f32::from(nibbles(scales[i / 4])[i / 2 % 2])) * 0.25
}

/// Vectors have a position of 9 bits and 7 signs.
pub(super) fn iq2_xs(block: &[u8; 74], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (d, words, scales) = (fields.half(), fields.bytes::<64>(), fields.bytes());
    let words = words.as_chunks().0.iter().map(|&word| u16::from_le_bytes(word));
    for (i, (values, word)) in values.as_chunks_mut::<8>().0.iter_mut().zip(words).enumerate() {
        let vector = IQ2_XS[usize::from(word & 511)];
        put_eight(values, iq2_scale(d, scales, i), vector, even_signs((word >> 9).into()));
    }
}

/// Positions have 10 bits, of which 2 are stored apart; vectors have 8 signs.
pub(super) fn iq2_s(block: &[u8; 82], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (d, low, signs) = (fields.half(), fields.bytes::<32>(), fields.bytes::<32>());
    let (high, scales) = (fields.bytes::<8>(), fields.bytes());
    for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let position = usize::from(low[i]) | usize::from(high[i / 4] >> (i % 4 * 2) & 3) << 8;
        put_eight(values, iq2_scale(d, scales, i), IQ2_S[position], signs[i]);
    }
}

/// Groups of 32 have eight positions; four times 7 signs and a scale of 4 bits are stored apart.
pub(super) fn iq3_xxs(block: &[u8; 98], values: &mut [f32; 256]) {
    /// Magnitudes of vectors of 4.
    const IQ3: [u8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];
    let mut fields = Fields(block);
    let (d, positions) = (fields.half(), fields.bytes::<64>());
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let rest = u32::from_le_bytes(*fields.bytes());
        let scale = d * (0.5 + (rest >> 28) as f32) * 0.5;
        for (i, value) in values.iter_mut().enumerate() {
            let vector = IQ3_XXS[usize::from(positions[8 * group + i / 4])];
            let magnitude = IQ3[usize::from(of_four(vector, i % 4))];
            let signs = even_signs(rest >> (i / 8 * 7));
            *value = scale * f32::from(magnitude) * sign(signs, i % 8);
        }
    }
}

/// Positions have 9 bits, of which one is stored apart; groups of 32 have a scale of 4 bits.
pub(super) fn iq3_s(block: &[u8; 110], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (d, low, high) = (fields.half(), fields.bytes::<64>(), fields.bytes::<8>());
    let (signs, scales) = (fields.bytes::<32>(), fields.bytes::<4>());
    for (i, value) in values.iter_mut().enumerate() {
        let at = i / 4;
        let position = usize::from(low[at]) | usize::from(high[at / 8] >> (at % 8) & 1) << 8;
        let magnitude = 1 + 2 * of_four(IQ3_S[position], i % 4);
        let scale = d * f32::from(1 + 2 * nibbles(scales[i / 64])[i / 32 % 2]);
        *value = scale * f32::from(magnitude) * sign(signs[i / 8], i % 8);
    }
}

/// Fills a vector of 8 with values from the codebook of IQ1, all moved by the same shift.
fn put_shifted(values: &mut [f32; 8], scale: f32, position: usize, is_negative: bool) {
    let shift = if is_negative { -IQ1_SHIFT } else { IQ1_SHIFT };
    for (i, value) in values.iter_mut().enumerate() {
        *value = scale * (of_eight(IQ1_S[position], &IQ1, i) + shift);
    }
}

/// Groups of 32 have 16 bits with four times 3 bits of positions, a scale and the shift's sign.
pub(super) fn iq1_s(block: &[u8; 50], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (d, low) = (fields.half(), fields.bytes::<32>());
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let rest = u16::from_le_bytes(*fields.bytes());
        let scale = d * f32::from(2 * (rest >> 12 & 7) + 1);
        for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let position = usize::from(low[4 * group + i]) | usize::from(rest >> (3 * i) & 7) << 8;
            put_shifted(values, scale, position, rest >> 15 == 1);
        }
    }
}

/// Vectors have 4 bits with 3 bits of the position and the shift's sign. Two of them have a scale of
/// 3 bits; the top bits of the words with the scales are the scale of the block.
pub(super) fn iq1_m(block: &[u8; 56], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (low, high) = (fields.bytes::<32>(), fields.bytes::<16>());
    let scales: [u16; 4] = std::array::from_fn(|_| u16::from_le_bytes(*fields.bytes()));
    let [a, b, c, e] = scales.map(|scale| scale & 0xF000);
    let d = f16_to_f32(a >> 12 | b >> 8 | c >> 4 | e);
    for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = d * f32::from(2 * (scales[i / 8] >> (i / 2 % 4 * 3) & 7) + 1);
        let rest = nibbles(high[i / 2])[i % 2];
        let position = usize::from(low[i]) | usize::from(rest & 7) << 8;
        put_shifted(values, scale, position, rest >> 3 == 1);
    }
}
