//! The squared and the largest error of quantization.
//!
//! ```text
//! x̂ = dequantize(quantize(x)),  noise = Σ (x - x̂)²,  signal = Σ x²,  largest = max |x - x̂|
//! ```
//!
//! Sums are in f64, in [`LANES`] interleaved partial sums that are added in ascending order at the end. The
//! order of additions is part of the definition, so every kernel gives the same bits.

use super::affine::Affine;
use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};
use crate::scheme::Quantization;

/// Partial sums: two vectors of AVX-512, enough to hide the latency of an addition.
const LANES: usize = 16;

/// The error that quantization makes in a slice of values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuantError {
    /// `Σ x²`.
    pub signal: f64,
    /// `Σ (x - x̂)²`.
    pub noise: f64,
    /// `max |x - x̂|`.
    pub largest: f32,
}

impl QuantError {
    /// The signal-to-quantization-noise ratio `10 log10(signal / noise)` in dB; `None` if the noise is 0. Noise
    /// without a signal gives `-∞`, and noise that is NaN gives NaN. Requires the feature `std`, since `core` has
    /// no logarithm.
    ///
    /// ```
    /// let error = quant_kernels::QuantError { signal: 200.0, noise: 2.0, largest: 1.0 };
    /// assert_eq!(error.sqnr_db(), Some(20.0));
    /// assert_eq!(quant_kernels::QuantError::default().sqnr_db(), None);
    /// ```
    #[cfg(feature = "std")]
    pub fn sqnr_db(self) -> Option<f64> {
        (self.noise != 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }

    /// The error of two slices together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            signal: self.signal + other.signal,
            noise: self.noise + other.noise,
            largest: self.largest.max(other.largest),
        }
    }
}

impl Kernel {
    /// The error of quantizing `values` by rule 3 and dequantizing the codes.
    pub fn quant_error(self, values: &[f32], quantization: Quantization) -> QuantError {
        self.run(Measure { values, affine: quantization.into() })
    }
}

struct Measure<'a> {
    values: &'a [f32],
    affine: Affine,
}

impl Operation for Measure<'_> {
    type Output = QuantError;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> QuantError {
        let mut lanes = Lanes { signal: [0.0; LANES], noise: [0.0; LANES], largest: [0.0; LANES] };
        let (steps, tail) = self.values.as_chunks::<LANES>();
        for step in steps {
            for i in 0..LANES {
                lanes.add(i, step[i], self.affine);
            }
        }
        for (i, &value) in tail.iter().enumerate() {
            lanes.add(i, value, self.affine);
        }
        QuantError {
            signal: lanes.signal.iter().sum(),
            noise: lanes.noise.iter().sum(),
            largest: lanes.largest.iter().copied().fold(0.0, f32::max),
        }
    }
}

struct Lanes {
    signal: [f64; LANES],
    noise: [f64; LANES],
    largest: [f32; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, i: usize, value: f32, affine: Affine) {
        let error = value - affine.value(affine.code(value));
        self.signal[i] += f64::from(value) * f64::from(value);
        self.noise[i] += f64::from(error) * f64::from(error);
        let magnitude = error.abs();
        self.largest[i] = if magnitude > self.largest[i] { magnitude } else { self.largest[i] };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::{CodeRange, QuantParams};
    use alloc::vec::Vec;

    fn quantization(scale: f32, zero_point: i8, codes: (i8, i8)) -> Quantization {
        let params = QuantParams::new(scale, zero_point).unwrap();
        Quantization { params, codes: CodeRange::new(codes.0, codes.1).unwrap() }
    }

    #[test]
    fn every_kernel_sums_in_the_same_order() {
        let values: Vec<f32> =
            (0..1003).map(|i| ((i * 7919) % 1009) as f32 * 0.013 - 6.0).collect();
        for len in [0, 1, 15, 16, 17, 1003] {
            let scalar =
                Kernel::SCALAR.quant_error(&values[..len], quantization(0.05, 3, (-128, 127)));
            for kernel in Kernel::available() {
                assert_eq!(
                    kernel.quant_error(&values[..len], quantization(0.05, 3, (-128, 127))),
                    scalar,
                    "{kernel}"
                );
            }
        }
    }

    #[test]
    fn values_that_are_codes_have_no_error() {
        let error =
            Kernel::current().quant_error(&[-1.0, 0.0, 0.5, 1.0], quantization(0.5, 0, (-2, 1)));
        // 1.0 / 0.5 = 2 saturates to 1, which stands for 0.5.
        assert_eq!(error, QuantError { signal: 2.25, noise: 0.25, largest: 0.5 });
    }

    #[cfg(feature = "std")]
    #[test]
    fn only_no_noise_at_all_has_no_decibels() {
        let sqnr = |signal, noise| QuantError { signal, noise, largest: 0.0 }.sqnr_db();
        assert_eq!(sqnr(2.25, 0.0), None);
        assert_eq!(sqnr(0.0, 0.0), None);
        assert_eq!(sqnr(0.0, 0.25), Some(f64::NEG_INFINITY));
        assert_eq!(sqnr(25.0, 0.25), Some(20.0));
        assert!(sqnr(1.0, f64::NAN).is_some_and(f64::is_nan));
    }
}
