//! `e^x`.

use crate::isa::Isa;
use core::f32::consts::LOG2_E;

/// At most this, so that the result is infinite.
const MOST: f32 = 89.0;

/// At least this, so that the result is 0.
const LEAST: f32 = -104.0;

/// The float added to one of magnitude below `2^22` to round it to an integer, ties to even, and to find
/// that integer in the low bits.
const ROUNDING: f32 = 12_582_912.0;

/// The upper 9 bits of `ln 2`, whose multiples by `n` are exact, and the rest.
const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];

/// The coefficients of a polynomial `p` with `e^r ≈ 1 + r + r² p(r)` for `|r| ≤ ln 2 / 2`, the highest
/// degree first.
const COEFFICIENTS: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];

/// `e^x` of each lane, by rule 16.
#[inline(always)]
pub(crate) fn exp<I: Isa>(isa: I, x: I::Floats) -> I::Floats {
    // In this order, NaN stays.
    let x = isa.greatest(isa.splat(LEAST), isa.least(isa.splat(MOST), x));
    let shifted = isa.add(isa.mul(x, isa.splat(LOG2_E)), isa.splat(ROUNDING));
    let n = isa.sub(shifted, isa.splat(ROUNDING));
    let r = isa.sub(x, isa.mul(n, isa.splat(LN_2[0])));
    let r = isa.sub(r, isa.mul(n, isa.splat(LN_2[1])));
    let mut p = isa.splat(COEFFICIENTS[0]);
    for i in 1..COEFFICIENTS.len() {
        p = isa.add(isa.mul(p, r), isa.splat(COEFFICIENTS[i]));
    }
    let y = isa.add(isa.mul(p, isa.mul(r, r)), r);
    let y = isa.add(y, isa.splat(1.0));
    // In two steps, because 2^n itself may be too large, or subnormal. The first one is exact.
    let n = isa.sub_ints(isa.to_bits(shifted), isa.to_bits(isa.splat(ROUNDING)));
    let half = isa.half(n);
    let y = isa.mul(y, isa.power_of_two(half));
    isa.mul(y, isa.power_of_two(isa.sub_ints(n, half)))
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use crate::isa::scalar::Scalar;

    fn exp(x: f32) -> f32 {
        super::exp(Scalar, [x; 4])[0]
    }

    /// The distance from `exact` in units of the last place of `f32`.
    fn ulps(found: f32, exact: f64) -> f64 {
        let ulp = f64::from(
            f32::from_bits((exact as f32).to_bits() & 0x7f80_0000).max(f32::MIN_POSITIVE),
        ) / f64::from(1 << 23);
        (f64::from(found) - exact).abs() / ulp
    }

    /// The largest error over every `step`-th float, and where it is.
    fn largest_error(step: usize) -> (f64, f32) {
        let mut largest = (0.0, 0.0);
        for bits in (0..=u32::MAX).step_by(step) {
            let x = f32::from_bits(bits);
            let (found, exact) = (exp(x), f64::from(x).exp());
            if x.is_nan() {
                assert!(found.is_nan());
            } else if exact > f64::from(f32::MAX) {
                // Half a unit above the largest float.
                assert!(found == f32::INFINITY || exact < 3.402_823_7e38, "{x:e}: {found:e}");
            } else if ulps(found, exact) > largest.0 {
                largest = (ulps(found, exact), x);
            }
        }
        largest
    }

    #[test]
    fn the_error_is_below_one_unit_of_the_last_place() {
        let (error, x) = largest_error(9_973);
        assert!(error < 1.0, "{error} at {x:e}");
    }

    #[test]
    #[ignore = "takes minutes"]
    fn the_error_is_below_one_unit_of_the_last_place_for_every_float() {
        let (error, x) = largest_error(1);
        std::println!("{error} at {x:e}");
        assert!(error < 1.0, "{error} at {x:e}");
    }

    #[test]
    fn ends_are_exact() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(-f32::INFINITY).to_bits(), 0);
        assert_eq!(exp(88.722_84), f32::INFINITY);
        assert!(exp(88.722_83).is_finite());
        assert_eq!(exp(-103.98).to_bits(), 0);
        assert_eq!(exp(-103.97).to_bits(), 1);
        assert!(exp(f32::NAN).is_nan());
    }
}
