//! The square root, which `core` does not have.

/// The square root, correctly rounded; NaN for negative numbers.
#[cfg(feature = "std")]
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    x.sqrt()
}

/// The square root, correctly rounded; NaN for negative numbers.
#[cfg(not(feature = "std"))]
pub(crate) fn sqrt(x: f32) -> f32 {
    by_integers(x)
}

/// `sqrt` by the square root of integers.
///
/// ```text
/// x = m · 2^e             e even, 48 or 49 bits in m
/// r = floor(sqrt(m))      25 bits: those of the result and one more
/// ```
/// No root is in the middle of two floats, because its square would need more bits than `x` has; so the
/// last bit of `r` says how to round.
#[cfg(any(test, not(feature = "std")))]
fn by_integers(x: f32) -> f32 {
    let positive = x > 0.0 && x < f32::INFINITY;
    if !positive {
        return if x < 0.0 { f32::NAN } else { x };
    }
    // An f64 has every f32 as a normal number.
    let bits = f64::from(x).to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let fraction = bits & ((1 << 52) - 1) | 1 << 52;
    // From `fraction · 2^(exponent - 52)`; the bits shifted out are zero.
    let odd = exponent & 1;
    let m = fraction >> (4 - odd);
    let root = m.isqrt();
    let rounded = (root + 1) >> 1;
    // `m · 2^(exponent - odd - 48)`, with the root halved once.
    let scale = (exponent - odd) / 2 - 24 + 1;
    (rounded as f64 * f64::from_bits(((scale + 1023) as u64) << 52)) as f32
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::by_integers;

    #[test]
    fn roots_of_integers_are_those_of_the_cpu() {
        let ends = [0.0, -0.0, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), f32::INFINITY];
        let all = (0..u32::MAX).step_by(65_537).map(f32::from_bits);
        for x in all.chain(ends) {
            let (found, expected) = (by_integers(x), x.sqrt());
            let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same, "{x:e}: {found:e}, not {expected:e}");
        }
    }
}
