//! bfloat16: the upper half of a single-precision number.

/// The bits of the bfloat16 number nearest to `value`, ties to even; a NaN stays a NaN.
///
/// ```
/// use quant_kernels::scheme::{bf16_to_f32, f32_to_bf16};
/// assert_eq!(bf16_to_f32(f32_to_bf16(1.01)), 1.007_812_5);
/// ```
pub const fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // Quiet, so that a payload in the lower half alone does not become infinity.
        return (bits >> 16) as u16 | 0x0040;
    }
    // Half of the last place that is left, less one if that place is even. A carry out of the
    // fraction moves into the exponent, up to infinity, which is what it should do.
    let half = 0x7FFF + (bits >> 16 & 1);
    ((bits + half) >> 16) as u16
}

/// The value of a bfloat16 number, exactly.
// Inlined into loops over slices, which compilers vectorize.
#[inline]
pub const fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_the_way_there_and_back() {
        for bits in 0..=u16::MAX {
            let value = bf16_to_f32(bits);
            let again = f32_to_bf16(value);
            assert!(again == bits || value.is_nan() && bf16_to_f32(again).is_nan(), "{bits:#06x}");
        }
    }

    #[test]
    fn ties_go_to_even_and_overflow_to_infinity() {
        let between = |bits: u16| f32::from_bits(u32::from(bits) << 16 | 0x8000);
        for (bits, nearest) in [(0x3F80, 0x3F80), (0x3F81, 0x3F82), (0x0000, 0x0000), (1, 2)] {
            assert_eq!(f32_to_bf16(between(bits)), nearest, "{bits:#06x}");
            assert_eq!(f32_to_bf16(between(bits).next_up()), bits + 1);
            assert_eq!(f32_to_bf16(between(bits).next_down()), bits);
        }
        assert_eq!(f32_to_bf16(f32::MAX), 0x7F80);
        assert_eq!(f32_to_bf16(f32::MIN), 0xFF80);
        assert!(bf16_to_f32(f32_to_bf16(f32::from_bits(0x7F80_0001))).is_nan());
    }
}
