//! Half precision, for scales: conversion both ways, in `core`.
//!
//! Two functions; the crate that offers them brings three more crates and a second `syn` into
//! every build. `tests/` compares them with it, bit by bit.

/// The bits of the half-precision number nearest to `value`, ties to even.
pub const fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7FFF_FFFF;
    if magnitude > 0x7F80_0000 {
        // NaN stays NaN: quiet, with the upper part of its payload.
        return sign | 0x7E00 | (magnitude >> 13) as u16 & 0x03FF;
    }
    // 65520, the first number that rounds up to infinity.
    if magnitude >= 0x477F_F000 {
        return sign | 0x7C00;
    }
    if magnitude >= 0x3880_0000 {
        // Normal in f16: move the exponent's bias from 127 to 15, drop 13 bits of the fraction.
        // A carry out of the fraction moves into the exponent, which is what it should do.
        let rebiased = magnitude - ((127 - 15) << 23);
        return sign | shift_rne(rebiased, 13) as u16;
    }
    // Subnormal: the fraction with its leading one, in units of 2^-24.
    let exponent = magnitude >> 23;
    let shift = 126 - exponent;
    if shift > 24 {
        return sign;
    }
    let fraction = magnitude & 0x007F_FFFF | 0x0080_0000;
    sign | shift_rne(fraction, shift) as u16
}

/// `value >> shift`, rounded half to even; `shift` is 1 to 31.
const fn shift_rne(value: u32, shift: u32) -> u32 {
    let kept = value >> shift;
    let rest = value & ((1 << shift) - 1);
    let half = 1 << (shift - 1);
    if rest > half || (rest == half && kept & 1 == 1) { kept + 1 } else { kept }
}

/// The value of a half-precision number, exactly.
pub const fn f16_to_f32(bits: u16) -> f32 {
    let sign = (bits as u32 & 0x8000) << 16;
    let exponent = (bits >> 10) as u32 & 0x1F;
    let fraction = bits as u32 & 0x03FF;
    let magnitude = match (exponent, fraction) {
        (0, 0) => 0,
        (0, _) => {
            // Subnormal: make the leading one implicit.
            let shift = fraction.leading_zeros() - 21;
            ((127 - 15 + 1 - shift) << 23) | ((fraction << shift) & 0x03FF) << 13
        }
        (0x1F, 0) => 0x7F80_0000,
        (0x1F, _) => 0x7FC0_0000 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_way_there_and_back() {
        for bits in 0..=u16::MAX {
            let value = f16_to_f32(bits);
            let again = f32_to_f16(value);
            assert!(again == bits || value.is_nan() && f16_to_f32(again).is_nan(), "{bits:#06x}");
        }
    }

    #[test]
    fn ties_go_to_even_and_overflow_to_infinity() {
        assert_eq!(f32_to_f16(1.0 + 1.0 / 2048.0), f32_to_f16(1.0));
        assert_eq!(f32_to_f16(1.0 + 3.0 / 2048.0), f32_to_f16(1.0 + 4.0 / 2048.0));
        assert_eq!(f32_to_f16(65_519.99), 0x7BFF);
        assert_eq!(f32_to_f16(65_520.0), 0x7C00);
        assert_eq!(f32_to_f16(-1e-9), 0x8000);
        // Half of the smallest subnormal is a tie with zero; anything more rounds up. Not by `powi`,
        // which is allowed to be inexact.
        let half_of_the_least = f16_to_f32(1) / 2.0;
        assert_eq!(f32_to_f16(half_of_the_least), 0);
        assert_eq!(f32_to_f16(half_of_the_least.next_up()), 1);
    }
}
