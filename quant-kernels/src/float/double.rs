//! `ln`, `exp`, `sin` and `cos` in f64, for tables that are rounded to f32.
//!
//! `core` has none of them, and those of `std` differ between systems.

use core::f64::consts::{FRAC_2_PI, SQRT_2};

/// `ln 2` in two parts; multiples of the first one by `|n| ≤ 2^11` are exact.
const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];

/// `π / 2` in three parts of 33 bits, 33 bits and the rest; multiples of the first two by `|n| < 2^20` are
/// exact.
const FRAC_PI_2: [f64; 3] =
    [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_6e-21];

/// The float added to one of magnitude below `2^51` to round it to an integer, ties to even.
const ROUNDING: f64 = 6_755_399_441_055_744.0;

/// The coefficients of `sin r ≈ r + r³ p(r²)` for `|r| ≤ π / 4`, the highest degree first.
const SIN: [f64; 6] = [
    1.589_690_995_211_55e-10,
    -2.505_076_025_340_686_3e-8,
    2.755_731_370_707_006_8e-6,
    -0.000_198_412_698_298_579_5,
    0.008_333_333_333_322_49,
    -0.166_666_666_666_666_32,
];

/// Those of `cos r ≈ 1 - r² / 2 + r⁴ p(r²)`.
const COS: [f64; 6] = [
    -1.135_964_755_778_819_5e-11,
    2.087_572_321_298_175e-9,
    -2.755_731_435_139_066_3e-7,
    2.480_158_728_947_673e-5,
    -0.001_388_888_888_887_411,
    0.041_666_666_666_666_6,
];

/// The natural logarithm of a positive normal number.
///
/// ```text
/// x = m · 2^k         m in √½ .. √2
/// s = (m - 1) / (m + 1)
/// ln x = k ln 2 + 2 (s + s³ / 3 + s⁵ / 5 + … + s²³ / 23)
/// ```
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut k = (bits >> 52) as i32 - 1023;
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if m > SQRT_2 {
        m *= 0.5;
        k += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let mut sum = 0.0;
    for degree in (1..=23).rev().step_by(2) {
        sum = sum * (s * s) + 1.0 / f64::from(degree);
    }
    let k = f64::from(k);
    k * LN_2[0] + (2.0 * (sum * s) + k * LN_2[1])
}

/// `e^x` for `|x| ≤ 700`: the Taylor series of degree 13 of what exceeds a multiple of `ln 2`.
pub(super) fn exp(x: f64) -> f64 {
    let n = (x * core::f64::consts::LOG2_E + ROUNDING) - ROUNDING;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let mut sum = 1.0;
    for degree in (1..=13).rev() {
        sum = sum * r / f64::from(degree) + 1.0;
    }
    sum * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// The sine and the cosine of `0 ≤ x < 2^20`.
pub(super) fn sin_cos(x: f64) -> (f64, f64) {
    let n = (x * FRAC_2_PI + ROUNDING) - ROUNDING;
    let r = ((x - n * FRAC_PI_2[0]) - n * FRAC_PI_2[1]) - n * FRAC_PI_2[2];
    let square = r * r;
    let sin = r + r * square * polynomial(&SIN, square);
    let cos = 1.0 - 0.5 * square + square * square * polynomial(&COS, square);
    match n as u64 % 4 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64, relative: f64, what: f64) {
        assert!(
            (found - expected).abs() <= relative * expected.abs(),
            "{what}: {found}, {expected}"
        );
    }

    #[test]
    fn logarithms_and_exponentials_are_within_a_few_units_of_the_last_place() {
        for i in 1..20_000u32 {
            let x = f64::from(i) * 0.37 + 1e-3;
            near(ln(x), x.ln(), 4e-16, x);
            near(ln(x * 1e30), (x * 1e30).ln(), 4e-16, x);
            let x = f64::from(i) * 0.03 - 300.0;
            near(exp(x), x.exp(), 1e-15, x);
        }
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn sines_are_within_3e_16_of_the_system_s_up_to_a_million() {
        for i in 0..200_000u32 {
            let x = f64::from(i) * 5.2428;
            let (sin, cos) = sin_cos(x);
            assert!((sin - x.sin()).abs() < 3e-16 && (cos - x.cos()).abs() < 3e-16, "{x}");
        }
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
    }
}
