//! Quantization by a multiplication with `1 / scale`, which is exact except near ties.

use crate::scheme::{ROUNDING, rounded_code};

/// The parameters of rule 3 for a multiplication, giving `code + 128`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reciprocal {
    /// `1 / scale`, rounded.
    pub(crate) inverse: f32,
    /// The distance from an integer from which on `value * inverse` and `value / scale` may round to
    /// different integers.
    pub(crate) near_tie: f32,
    pub(crate) zero_point: i16,
    pub(crate) range: (u8, u8),
}

/// Values that [`Isa::quantize`](super::Isa::quantize) takes.
pub(crate) const QUANTIZE_LANES: usize = 32;

impl Reciprocal {
    /// [`Isa::quantize`](super::Isa::quantize) in portable Rust.
    #[inline(always)]
    pub(crate) fn quantize(
        self,
        values: &[f32; QUANTIZE_LANES],
        codes: &mut [u8; QUANTIZE_LANES],
    ) -> bool {
        let zero = f32::from(self.zero_point);
        let (lo, hi) = (f32::from(self.range.0) - zero, f32::from(self.range.1) - zero);
        let mut near_tie = false;
        for i in 0..QUANTIZE_LANES {
            let quotient = values[i] * self.inverse;
            let quotient = if quotient < hi { quotient } else { hi };
            let quotient = if quotient > lo { quotient } else { lo };
            let sum = quotient + ROUNDING;
            // Both differences are exact: the nearest integer, and the distance to it.
            let distance = quotient - (sum - ROUNDING);
            near_tie |= distance.abs() >= self.near_tie;
            codes[i] = (rounded_code(sum) + i32::from(self.zero_point)) as u8;
        }
        near_tie
    }
}
