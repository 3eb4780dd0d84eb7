//! Quantization and dequantization of slices (`docs/numerics.md`, rule 3).

use super::affine::Affine;
use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};
use crate::scheme::{QuantParams, Quantization};

/// Elements per iteration: four vectors of AVX-512 or eight of AVX2, enough independent chains to hide the
/// latency of a division or a comparison.
const LANES: usize = 64;

impl Kernel {
    /// Writes `clamp(rne(values / scale) + zero_point, min, max)`, with a true division and ties
    /// rounded to even.
    ///
    /// Infinities saturate. A NaN becomes the largest code, on every kernel; to refuse it, call
    /// [`Kernel::min_max`] or [`Kernel::first_nan`] first.
    ///
    /// ```
    /// use quant_kernels::Kernel;
    /// use quant_kernels::scheme::{QuantParams, Quantization};
    /// let quantization = Quantization::full_range(QuantParams::new(0.5, 3)?);
    /// let mut codes = [0; 3];
    /// Kernel::current().quantize(&[0.0, 0.75, -1e9], quantization, &mut codes);
    /// assert_eq!(codes, [3, 5, -128]);
    /// # Ok::<(), quant_kernels::scheme::ScaleError>(())
    /// ```
    ///
    /// # Panics
    /// `values` and `out` differ in length.
    pub fn quantize(self, values: &[f32], quantization: Quantization, out: &mut [i8]) {
        self.quantize_by(values, quantization, out);
    }

    /// [`Kernel::quantize`] with parameters that become an [`Affine`] in the operation, in registers:
    /// passing one in memory takes longer than quantizing a short group.
    #[inline(always)]
    pub(crate) fn quantize_by(self, values: &[f32], by: impl Into<Affine>, out: &mut [i8]) {
        assert_eq!(values.len(), out.len(), "one code for each value");
        self.run(Quantize { values, by, out });
    }

    /// Writes `f32(codes - zero_point) * scale`.
    ///
    /// # Panics
    /// `codes` and `out` differ in length.
    pub fn dequantize(self, codes: &[i8], params: QuantParams, out: &mut [f32]) {
        self.dequantize_by(codes, params, out);
    }

    #[inline(always)]
    pub(crate) fn dequantize_by(self, codes: &[i8], by: impl Into<Affine>, out: &mut [f32]) {
        assert_eq!(codes.len(), out.len(), "one value for each code");
        self.run(Dequantize { codes, by, out });
    }
}

struct Quantize<'a, A> {
    values: &'a [f32],
    by: A,
    out: &'a mut [i8],
}

impl<A: Into<Affine>> Operation for Quantize<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let affine = self.by.into();
        let (steps, tail) = self.values.as_chunks::<LANES>();
        let (outs, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (step, out) in steps.iter().zip(outs) {
            affine.codes(isa, step, out);
        }
        for (value, out) in tail.iter().zip(out_tail) {
            *out = affine.code(*value);
        }
    }
}

struct Dequantize<'a, A> {
    codes: &'a [i8],
    by: A,
    out: &'a mut [f32],
}

impl<A: Into<Affine>> Operation for Dequantize<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let affine = self.by.into();
        let (steps, tail) = self.codes.as_chunks::<LANES>();
        let (outs, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (step, out) in steps.iter().zip(outs) {
            for i in 0..LANES {
                out[i] = affine.value(step[i]);
            }
        }
        for (code, out) in tail.iter().zip(out_tail) {
            *out = affine.value(*code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elementwise::min_max::INFINITY_BITS;

    /// Ties of a scale, and their neighbours: where product and quotient may differ.
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
                let affine = Affine::new(scale, zero_point, qmin, qmax);
                kernel.quantize_by(&values, affine, &mut codes);
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
