//! Codes −1, 0 and 1 with a scale for 256 values.

use super::Fields;

/// Powers of three, by which a digit is moved to the top of a byte.
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

/// Five digits share a byte, which holds their number times 256/243, so that the product with a
/// power of three, modulo 256, has the digit at its top.
pub(super) fn tq1_0(block: &[u8; 54], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (first, second) = (fields.bytes::<32>(), fields.bytes::<16>());
    let (last, d) = (fields.bytes::<4>(), fields.half());
    let (values_of_first, values) = values.split_at_mut(160);
    let (values_of_second, values_of_last) = values.split_at_mut(80);
    let digits = |bytes: &[u8], values: &mut [f32]| {
        for (values, power) in values.chunks_exact_mut(bytes.len()).zip(POWERS) {
            for (value, &byte) in values.iter_mut().zip(bytes) {
                let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
                *value = d * f32::from(digit as i8 - 1);
            }
        }
    };
    digits(first, values_of_first);
    digits(second, values_of_second);
    digits(last, values_of_last);
}

pub(super) fn tq2_0(block: &[u8; 66], values: &mut [f32; 256]) {
    let mut fields = Fields(block);
    let (codes, d) = (fields.bytes::<64>(), fields.half());
    for (i, value) in values.iter_mut().enumerate() {
        let code = codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        *value = d * f32::from(code as i8 - 1);
    }
}
