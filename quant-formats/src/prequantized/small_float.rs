//! Floats of 8 and 4 bits.

use std::array;

use quant::scheme::f16_to_f32;

use crate::safetensors::Dtype;

/// The values of all codes of a float of 8 bits.
pub(super) type Table = [f32; 256];

/// The values of the codes of a type with a sign, exponents and a mantissa in 8 bits.
pub(super) fn table(dtype: Dtype) -> Option<Table> {
    let value: fn(u8) -> f32 = match dtype {
        Dtype::F8_E4M3 => e4m3,
        Dtype::F8_E5M2 => e5m2,
        Dtype::F8_E4M3FNUZ => |code| fnuz(code, 3, 8),
        Dtype::F8_E5M2FNUZ => |code| fnuz(code, 2, 16),
        _ => return None,
    };
    Some(array::from_fn(|code| value(code as u8)))
}

/// The values of E8M0: `2^(code - 127)`, and NaN for 255.
pub(super) fn powers() -> Table {
    array::from_fn(|code| match code {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        exponent => f32::from_bits((exponent as u32) << 23),
    })
}

/// The values of E2M1 without the sign.
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// The value of a code of E2M1, in the low 4 bits.
pub(super) fn e2m1(code: u8) -> f32 {
    let magnitude = E2M1[usize::from(code & 7)];
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// Without infinities: all ones are NaN, and the greatest value is 448.
fn e4m3(code: u8) -> f32 {
    if code & 0x7F == 0x7F {
        return f32::NAN;
    }
    signed(code, magnitude(code & 0x7F, 3, 7))
}

/// The upper half of a half-precision float.
fn e5m2(code: u8) -> f32 {
    f16_to_f32(u16::from(code) << 8)
}

/// Without infinities and without a negative zero, whose code is NaN.
fn fnuz(code: u8, mantissa: u32, bias: i32) -> f32 {
    if code == 0x80 { f32::NAN } else { signed(code, magnitude(code & 0x7F, mantissa, bias)) }
}

fn signed(code: u8, magnitude: f32) -> f32 {
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The value of exponent and mantissa. Every one of these formats fits in normal f32.
fn magnitude(code: u8, mantissa: u32, bias: i32) -> f32 {
    let (exponent, fraction) =
        (i32::from(code >> mantissa), i32::from(code) & ((1 << mantissa) - 1));
    let (significand, exponent) =
        if exponent == 0 { (fraction, 1) } else { (fraction + (1 << mantissa), exponent) };
    let power = exponent - bias - mantissa as i32;
    significand as f32 * f32::from_bits(((power + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_has_448_and_no_infinity() {
        let values = table(Dtype::F8_E4M3).unwrap();
        assert_eq!((values[0x7E], values[0xFE], values[0x08]), (448.0, -448.0, 2f32.powi(-6)));
        assert_eq!(
            (values[1], values[0x38], values[0x80].to_bits()),
            (2f32.powi(-9), 1.0, 1 << 31)
        );
        let nan: Vec<usize> = (0..256).filter(|&code| !values[code].is_finite()).collect();
        assert_eq!(nan, [0x7F, 0xFF]);
    }

    #[test]
    fn e5m2_is_the_upper_half_of_f16() {
        let values = table(Dtype::F8_E5M2).unwrap();
        assert_eq!(
            (values[0x7B], values[0x7C], values[1]),
            (57344.0, f32::INFINITY, 2f32.powi(-16))
        );
    }

    #[test]
    fn fnuz_types_have_one_zero_and_one_nan() {
        for (dtype, largest, least) in [
            (Dtype::F8_E4M3FNUZ, 240.0, 2f32.powi(-10)),
            (Dtype::F8_E5M2FNUZ, 57344.0, 2f32.powi(-17)),
        ] {
            let values = table(dtype).unwrap();
            assert_eq!((values[0x7F], values[1]), (largest, least));
            assert!(values[0x80].is_nan());
            assert_eq!(values.iter().filter(|value| **value == 0.0).count(), 1);
        }
    }

    #[test]
    fn powers_of_two_are_exact_from_the_subnormal_one_on() {
        let values = powers();
        assert_eq!((values[127], values[128], values[0]), (1.0, 2.0, 2f32.powi(-127)));
        assert_eq!(values[254], 2f32.powi(127));
        assert!(values[255].is_nan());
    }

    #[test]
    fn fp4_has_eight_magnitudes_and_a_sign() {
        assert_eq!((e2m1(7), e2m1(0x9), e2m1(8).to_bits()), (6.0, -0.5, 1 << 31));
    }
}
