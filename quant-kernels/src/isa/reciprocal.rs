//! Quantization by a multiplication with `1 / scale`, which is right except near ties.

use crate::scheme::{ROUNDING, rounded_code};

/// Rule 3 by a product instead of a quotient, for codes plus 128.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Approximate {
    /// `1 / scale`, rounded.
    pub(crate) inverse: f32,
    /// The distance from an integer at which `value * inverse` may be rounded to another one than
    /// `value / scale`.
    pub(crate) doubtful: f32,
    pub(crate) zero_point: i16,
    pub(crate) range: (u8, u8),
}

/// Values that are quantized together.
pub(crate) const TOGETHER: usize = 32;

impl Approximate {
    /// [`Isa::quantize`] in plain Rust.
    #[inline(always)]
    pub(crate) fn quantize(self, values: &[f32; TOGETHER], codes: &mut [u8; TOGETHER]) -> bool {
        let zero = f32::from(self.zero_point);
        let (lo, hi) = (f32::from(self.range.0) - zero, f32::from(self.range.1) - zero);
        let mut doubtful = false;
        for i in 0..TOGETHER {
            let quotient = values[i] * self.inverse;
            let quotient = if quotient < hi { quotient } else { hi };
            let quotient = if quotient > lo { quotient } else { lo };
            let sum = quotient + ROUNDING;
            // Both differences are exact: the nearest integer, and how far it is.
            let distance = quotient - (sum - ROUNDING);
            doubtful |= distance.abs() >= self.doubtful;
            codes[i] = (rounded_code(sum) + i32::from(self.zero_point)) as u8;
        }
        doubtful
    }
}
