//! Quantization and dequantization of slices (`docs/numerics.md`, rule 3).

use super::affine::{Affine, assert_codes};
use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};

/// Elements per step: four vectors of AVX-512 or eight of AVX2, enough independent chains to hide
/// the latency of a division or a comparison.
const LANES: usize = 64;

impl Kernel {
    /// Writes `clamp(rne(values / scale) + zero_point, qmin, qmax)`, with a true division and ties
    /// rounded to even.
    ///
    /// Infinities saturate. A NaN is given `qmax`, on every kernel; whoever must refuse it asks
    /// [`Kernel::min_max`] or [`Kernel::first_nan`] first.
    ///
    /// # Panics
    /// - `values` and `out` differ in length.
    /// - `qmin ..= qmax` or `zero_point` is not within `-128 ..= 127`.
    pub fn quantize(
        self,
        values: &[f32],
        scale: f32,
        zero_point: i32,
        qmin: i32,
        qmax: i32,
        out: &mut [i8],
    ) {
        assert_eq!(values.len(), out.len(), "one code for each value");
        assert_codes(zero_point, qmin, qmax);
        let affine = Affine::new(scale, zero_point, qmin, qmax);
        self.run(Quantize { values, affine, out });
    }

    /// Writes `f32(codes - zero_point) * scale`.
    ///
    /// # Panics
    /// - `codes` and `out` differ in length.
    /// - `zero_point` is not within `-128 ..= 127`.
    pub fn dequantize(self, codes: &[i8], scale: f32, zero_point: i32, out: &mut [f32]) {
        assert_eq!(codes.len(), out.len(), "one value for each code");
        assert_codes(zero_point, -128, 127);
        let affine = Affine::new(scale, zero_point, -128, 127);
        self.run(Dequantize { codes, affine, out });
    }
}

struct Quantize<'a> {
    values: &'a [f32],
    affine: Affine,
    out: &'a mut [i8],
}

impl Operation for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (steps, tail) = self.values.as_chunks::<LANES>();
        let (outs, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (step, out) in steps.iter().zip(outs) {
            self.affine.codes(isa, step, out);
        }
        for (value, out) in tail.iter().zip(out_tail) {
            *out = self.affine.code(*value);
        }
    }
}

struct Dequantize<'a> {
    codes: &'a [i8],
    affine: Affine,
    out: &'a mut [f32],
}

impl Operation for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (steps, tail) = self.codes.as_chunks::<LANES>();
        let (outs, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (step, out) in steps.iter().zip(outs) {
            for i in 0..LANES {
                out[i] = self.affine.value(step[i]);
            }
        }
        for (code, out) in tail.iter().zip(out_tail) {
            *out = self.affine.value(*code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elementwise::min_max::INFINITY_BITS;

    /// Ties and their neighbours, for a scale: where a product and a quotient may differ.
    fn near_ties(scale: f32) -> [f32; 64] {
        core::array::from_fn(|i| {
            let tie = (i as i32 / 3 * 27 - 280) as f32 + 0.5;
            let value = tie * scale;
            f32::from_bits(value.to_bits().wrapping_add(i as u32 % 3).wrapping_sub(1))
        })
    }

    #[test]
    fn codes_are_those_of_a_division_for_every_scale() {
        let mut bits = 1u32;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Every positive scale, subnormal ones included.
            let scale = f32::from_bits((bits >> 1) % INFINITY_BITS).max(f32::MIN_POSITIVE * 1e-6);
            let zero_point = (bits >> 3 & 0xff) as i32 - 128;
            let (qmin, qmax) = if bits & 1 == 0 { (-128, 127) } else { (-100, 90) };
            let mut values = near_ties(scale);
            values[..5].copy_from_slice(&[1e38, -1e38, f32::INFINITY, -f32::INFINITY, f32::NAN]);
            for kernel in Kernel::available() {
                let mut codes = [0; 64];
                kernel.quantize(&values, scale, zero_point, qmin, qmax, &mut codes);
                assert_quantized(&values, scale, (zero_point, qmin, qmax), &codes);
            }
        }
    }

    fn assert_quantized(
        values: &[f32; 64],
        scale: f32,
        (zero_point, qmin, qmax): (i32, i32, i32),
        codes: &[i8; 64],
    ) {
        for (value, code) in values.iter().zip(codes) {
            let exact = (value / scale).clamp(-600.0, 600.0).round_ties_even() as i32;
            let expected = if value.is_nan() { qmax } else { exact + zero_point };
            assert_eq!(i32::from(*code), expected.clamp(qmin, qmax), "{value:e} / {scale:e}");
        }
    }
}
