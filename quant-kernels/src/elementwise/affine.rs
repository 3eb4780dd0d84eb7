//! Rule 3 for slices of any length.

use crate::isa::{Isa, QUANTIZE_LANES, Reciprocal};
use crate::scheme::{QuantParams, Quantization, ROUNDING, rounded_code};

/// The largest distance from an integer at which a product rounds as the quotient does.
const NEAR_TIE: f32 = 0.5 - 1.0 / 8192.0;

/// The parameters of rule 3, prepared for loops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine {
    scale: f32,
    zero_point: i32,
    /// `qmin - z` and `qmax - z`. Clamping to these before `z` is added is equivalent, as is clamping before
    /// rounding, since they are integers.
    range: (f32, f32),
    /// The parameters that vectors are quantized with.
    pub(crate) approximate: Reciprocal,
}

impl Affine {
    /// `zero_point`, `qmin` and `qmax` are 8-bit codes.
    #[inline(always)]
    pub(crate) fn new(scale: f32, zero_point: i32, qmin: i32, qmax: i32) -> Self {
        let range = ((qmin - zero_point) as f32, (qmax - zero_point) as f32);
        let inverse = 1.0 / scale;
        // A subnormal or infinite inverse has lost bits, so every product may round differently.
        let near_tie = if inverse.is_normal() { NEAR_TIE } else { 0.0 };
        let approximate = Reciprocal {
            inverse,
            near_tie,
            zero_point: zero_point as i16 + 128,
            range: ((qmin + 128) as u8, (qmax + 128) as u8),
        };
        Self { scale, zero_point, range, approximate }
    }

    pub(crate) const fn scale(self) -> f32 {
        self.scale
    }

    /// `clamp(rne(x / s) + z, qmin, qmax)`; a NaN gives `qmax`.
    #[inline(always)]
    pub(crate) fn code(self, value: f32) -> i8 {
        let (lo, hi) = self.range;
        let quotient = value / self.scale;
        // The order and form of the comparisons define the result for NaN, in one instruction each.
        let quotient = if quotient < hi { quotient } else { hi };
        let quotient = if quotient > lo { quotient } else { lo };
        (rounded_code(quotient + ROUNDING) + self.zero_point) as i8
    }

    /// [`Affine::code`] of each value, mostly without the division, which would take longer than the rest.
    ///
    /// The inverse and the product are each rounded once, as is the quotient: for `|x / s| ≤ 512` the product
    /// differs from the quotient by at most `512 · 3 · 2^-24 < 2^-13`. Both round to the same integer unless a tie
    /// is as near as that, which happens for one value in 4096; then the values are divided after all. Larger
    /// values are clamped, whatever they round to.
    #[inline(always)]
    pub(crate) fn codes<T: Code, const N: usize>(
        self,
        isa: impl Isa,
        values: &[f32; N],
        codes: &mut [T; N],
    ) {
        let (pieces, rest) = values.as_chunks::<QUANTIZE_LANES>();
        let (outs, out_rest) = codes.as_chunks_mut::<QUANTIZE_LANES>();
        for (values, out) in pieces.iter().zip(outs) {
            self.piece(isa, values, out);
        }
        if !rest.is_empty() {
            let (mut piece, mut out) = ([0.0; QUANTIZE_LANES], [T::of(0); QUANTIZE_LANES]);
            piece[..rest.len()].copy_from_slice(rest);
            self.piece(isa, &piece, &mut out);
            out_rest.copy_from_slice(&out[..rest.len()]);
        }
    }

    #[inline(always)]
    fn piece<T: Code>(
        self,
        isa: impl Isa,
        values: &[f32; QUANTIZE_LANES],
        out: &mut [T; QUANTIZE_LANES],
    ) {
        let mut codes = [0; QUANTIZE_LANES];
        if isa.quantize(self.approximate, values, &mut codes) {
            for i in 0..QUANTIZE_LANES {
                out[i] = T::of(self.code(values[i]) as u8 ^ 0x80);
            }
            return;
        }
        for i in 0..QUANTIZE_LANES {
            out[i] = T::of(codes[i]);
        }
    }

    /// `f32(q - z) * s`.
    #[inline(always)]
    pub(crate) fn value(self, code: i8) -> f32 {
        (i32::from(code) - self.zero_point) as f32 * self.scale
    }
}

/// The storage type of a code.
pub(crate) trait Code: Copy {
    /// From `code + 128`.
    fn of(code: u8) -> Self;
}

impl Code for i8 {
    #[inline(always)]
    fn of(code: u8) -> Self {
        (code ^ 0x80) as Self
    }
}

impl Code for u8 {
    #[inline(always)]
    fn of(code: u8) -> Self {
        code
    }
}

impl From<Quantization> for Affine {
    #[inline(always)]
    fn from(Quantization { params, codes }: Quantization) -> Self {
        let zero_point = i32::from(params.zero_point());
        Self::new(params.scale(), zero_point, codes.min().into(), codes.max().into())
    }
}

impl From<QuantParams> for Affine {
    #[inline(always)]
    fn from(params: QuantParams) -> Self {
        Quantization::full_range(params).into()
    }
}
