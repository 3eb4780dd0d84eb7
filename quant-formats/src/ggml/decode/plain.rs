//! Types without blocks: one number for each value.

use quant::scheme::f16_to_f32;

/// Decodes a block of one value.
pub(super) fn one<const BYTES: usize>(
    value_of: impl Fn([u8; BYTES]) -> f32,
) -> impl Fn(&[u8; BYTES], &mut [f32; 1]) {
    move |bytes, [value]| *value = value_of(*bytes)
}

pub(super) fn f16(bytes: [u8; 2]) -> f32 {
    f16_to_f32(u16::from_le_bytes(bytes))
}

pub(super) fn bf16([low, high]: [u8; 2]) -> f32 {
    f32::from_le_bytes([0, 0, low, high])
}

/// Rounded once, to nearest even.
pub(super) fn f64(bytes: [u8; 8]) -> f32 {
    f64::from_le_bytes(bytes) as f32
}
