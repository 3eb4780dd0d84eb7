//! Blocks with one scale, or one for each few values, and codes of 1 to 8 bits.
//!
//! Where two codes share a byte, the low halves of all bytes come before the high halves.

use super::{Fields, nibbles};

/// Values of the codes of `IQ4_NL` and `IQ4_XS`.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the values of E2M1.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

pub(super) fn q1_0(block: &[u8; 18], values: &mut [f32; 128]) {
    let mut fields = Fields(block);
    let (d, bits) = (fields.half(), fields.bytes::<16>());
    for (i, value) in values.iter_mut().enumerate() {
        *value = if bits[i / 8] >> (i % 8) & 1 == 1 { d } else { -d };
    }
}

pub(super) fn q2_0(block: &[u8; 18], values: &mut [f32; 64]) {
    let mut fields = Fields(block);
    let (d, codes) = (fields.half(), fields.bytes::<16>());
    for (i, value) in values.iter_mut().enumerate() {
        let code = codes[i / 4] >> (2 * (i % 4)) & 3;
        *value = f32::from(code as i8 - 1) * d;
    }
}

pub(super) fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let mut fields = Fields(block);
    let d = fields.half();
    halves(fields.bytes::<16>(), values, |code| d * f32::from(code as i8 - 8));
}

pub(super) fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let mut fields = Fields(block);
    let (d, m) = (fields.half(), fields.half());
    halves(fields.bytes::<16>(), values, |code| d * f32::from(code) + m);
}

pub(super) fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let mut fields = Fields(block);
    let d = fields.half();
    five_bits(&mut fields, values, |code| d * f32::from(code as i8 - 16));
}

pub(super) fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let mut fields = Fields(block);
    let (d, m) = (fields.half(), fields.half());
    five_bits(&mut fields, values, |code| d * f32::from(code) + m);
}

pub(super) fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let mut fields = Fields(block);
    let (d, codes) = (fields.half(), fields.bytes::<32>());
    for (value, &code) in values.iter_mut().zip(codes) {
        *value = f32::from(code as i8) * d;
    }
}

pub(super) fn iq4_nl(block: &[u8; 18], values: &mut [f32; 32]) {
    let mut fields = Fields(block);
    let d = fields.half();
    halves(fields.bytes::<16>(), values, |code| d * f32::from(IQ4[usize::from(code)]));
}

/// Eight groups of 32; their scales have 6 bits, of which the high 2 are stored apart.
pub(super) fn iq4_xs(block: &[u8; 136], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let d = fields.half();
    let high = u16::from_le_bytes(*fields.bytes());
    let low = fields.bytes::<4>();
    let codes = fields.bytes::<128>().as_chunks::<16>().0;
    for (i, (values, codes)) in values.as_chunks_mut::<32>().0.iter_mut().zip(codes).enumerate() {
        let scale = nibbles(low[i / 2])[i % 2] | ((high >> (2 * i) & 3) as u8) << 4;
        let d = d * f32::from(scale as i8 - 32);
        halves(codes, values, |code| d * f32::from(IQ4[usize::from(code)]));
    }
}

pub(super) fn mxfp4(block: &[u8; 17], values: &mut [f32; 32]) {
    let [exponent, codes @ ..] = block;
    // Half of 2^(exponent - 127), because the table has twice the values.
    let d = f32::from_bits(match exponent {
        0 | 1 => 0x0020_0000 << exponent,
        _ => u32::from(exponent - 1) << 23,
    });
    halves(codes, values, |code| d * f32::from(E2M1[usize::from(code)]));
}

/// Four groups of 16.
pub(super) fn nvfp4(block: &[u8; 36], values: &mut [f32; 64]) {
    let mut fields = Fields(block);
    let (scales, codes) = (fields.bytes::<4>(), fields.bytes::<32>());
    let groups = values.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<8>().0);
    for ((values, codes), &scale) in groups.zip(scales) {
        let d = half_of_e4m3(scale);
        halves(codes, values, |code| d * f32::from(E2M1[usize::from(code)]));
    }
}

/// Half the value of an E4M3 number, whose sign is ignored. 0x7F, which is NaN, is 0 as in ggml.
fn half_of_e4m3(bits: u8) -> f32 {
    let (exponent, fraction) = (bits >> 3 & 15, f32::from(bits & 7));
    match (bits, exponent) {
        (0x7F, _) => 0.0,
        // 2^-10, half of the least subnormal.
        (_, 0) => fraction * f32::from_bits((127 - 10) << 23),
        // Half of 2^(exponent - 7).
        _ => (1.0 + fraction / 8.0) * f32::from_bits((u32::from(exponent) + 127 - 8) << 23),
    }
}

/// Values of 4-bit codes: the low halves of all bytes, then the high halves.
fn halves<const BYTES: usize, const VALUES: usize>(
    codes: &[u8; BYTES],
    values: &mut [f32; VALUES],
    value: impl Fn(u8) -> f32,
) {
    let (low, high) = values.split_at_mut(BYTES);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(codes) {
        [*low, *high] = nibbles(byte).map(&value);
    }
}

/// Values of 5-bit codes, whose fifth bits are stored before the others.
fn five_bits(fields: &mut Fields<'_>, values: &mut [f32; 32], value: impl Fn(u8) -> f32) {
    let (fifth, low) = (u32::from_le_bytes(*fields.bytes()), fields.bytes::<16>());
    for (i, slot) in values.iter_mut().enumerate() {
        let four = nibbles(low[i % 16])[i / 16];
        *slot = value(four | ((fifth >> i & 1) as u8) << 4);
    }
}
