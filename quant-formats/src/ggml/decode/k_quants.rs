//! K-quants: blocks of 256 in groups of 16 or 32, whose scales are quantized themselves.

use super::{Fields, nibbles};

/// The 2 bits at a position of codes of which four, 32 positions apart, share a byte.
fn two_bits(codes: &[u8; 64], i: usize) -> u8 {
    codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

/// The bit at a position of bits of which eight, 32 positions apart, share a byte.
fn one_bit(bits: &[u8; 32], i: usize) -> u8 {
    bits[i % 32] >> (i / 32) & 1
}

/// The 4 bits at a position of codes of which two, `N` positions apart, share a byte.
fn four_bits<const N: usize>(codes: &[u8; 128], i: usize) -> u8 {
    nibbles(codes[i / (2 * N) * N + i % N])[i / N % 2]
}

pub(super) fn q2_k(block: &[u8; 84], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (scales, codes) = (fields.bytes::<16>(), fields.bytes());
    let (d, dmin) = (fields.half(), fields.half());
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let [scale, min] = nibbles(scales[group]).map(f32::from);
        let (scale, min) = (d * scale, dmin * min);
        for (i, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(two_bits(codes, 16 * group + i)) - min;
        }
    }
}

pub(super) fn q3_k(block: &[u8; 110], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (high, low) = (fields.bytes(), fields.bytes());
    let (scales, d) = (fields.bytes::<12>(), fields.half());
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = nibbles(scales[group % 8])[group / 8]
            | (scales[8 + group % 4] >> (group / 4 * 2) & 3) << 4;
        let scale = d * f32::from(scale as i8 - 32);
        for (i, value) in values.iter_mut().enumerate() {
            let i = 16 * group + i;
            // The offset of 4 applies where the bit is not set.
            let code = two_bits(low, i) as i8 - 4 * (1 - one_bit(high, i) as i8);
            *value = scale * f32::from(code);
        }
    }
}

/// Scales and minima of 6 bits: eight of each in 12 bytes.
///
/// The first four have the low 6 bits of a byte. The others have 4 bits in the last four bytes, and
/// the 2 bits that the first ones leave.
fn scales_and_minima(packed: &[u8; 12]) -> [[f32; 2]; 8] {
    std::array::from_fn(|i| {
        let byte = |at: usize| packed[at + i % 4];
        let [scale, min] = if i < 4 {
            [byte(0) & 63, byte(4) & 63]
        } else {
            let [scale, min] = nibbles(byte(8));
            [scale | byte(0) >> 2 & 48, min | byte(4) >> 2 & 48]
        };
        [scale.into(), min.into()]
    })
}

pub(super) fn q4_k(block: &[u8; 144], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (d, dmin) = (fields.half(), fields.half());
    let groups = scales_and_minima(fields.bytes());
    let codes = fields.bytes();
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let [scale, min] = [d * groups[group][0], dmin * groups[group][1]];
        for (i, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(four_bits::<32>(codes, 32 * group + i)) - min;
        }
    }
}

pub(super) fn q5_k(block: &[u8; 176], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (d, dmin) = (fields.half(), fields.half());
    let groups = scales_and_minima(fields.bytes());
    let (high, low) = (fields.bytes(), fields.bytes());
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let [scale, min] = [d * groups[group][0], dmin * groups[group][1]];
        for (i, value) in values.iter_mut().enumerate() {
            let i = 32 * group + i;
            let code = four_bits::<32>(low, i) | one_bit(high, i) << 4;
            *value = scale * f32::from(code) - min;
        }
    }
}

pub(super) fn q6_k(block: &[u8; 210], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (low, high) = (fields.bytes(), fields.bytes());
    let (scales, d) = (fields.bytes::<16>(), fields.half());
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group] as i8);
        for (i, value) in values.iter_mut().enumerate() {
            let i = 16 * group + i;
            let code = four_bits::<64>(low, i) | two_bits(high, i) << 4;
            *value = scale * f32::from(code as i8 - 32);
        }
    }
}

pub(super) fn q8_k(block: &[u8; 292], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (d, codes) = (f32::from_le_bytes(*fields.bytes()), fields.bytes::<256>());
    for (value, &code) in values.iter_mut().zip(codes) {
        *value = d * f32::from(code as i8);
    }
}
