//! A linear layer in static int8, one output at a time, without memory of its own: rules 3 and 6 in
//! plain loops over borrowed codes.
//!
//! It is for machines without a heap, where weights stay in flash as they are in a file. The bits are
//! those of [`Kernel::linear`](https://docs.rs/quant-kernels/latest/quant_kernels/struct.Kernel.html#method.linear)
//! on every kernel. A machine with a heap uses that: weights that are packed once are read much faster.
//!
//! ```
//! use quant_kernels::row::{self, OutputRow};
//! use quant_kernels::scheme::{QuantParams, Quantization};
//!
//! let input = Quantization::full_range(QuantParams::new(0.5, -1)?);
//! let mut codes = [0; 3];
//! row::quantize([0.5, -2.0, 1.25], input, &mut codes)?;
//! assert_eq!(codes, [0, -5, 1]);
//!
//! let output = OutputRow::new(&[10, 20, -30], QuantParams::new(0.25, 0)?, Some(1.0))?;
//! assert_eq!(output.sum(&codes, -1)?, 10 * 1 + 20 * -4 - 30 * 2);
//! assert_eq!(output.product(&codes, input.params)?, -130.0 * (0.5 * 0.25) + 1.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt;

use crate::scheme::{QuantParams, Quantization, round_code};

/// The weights of one output of a linear layer: codes of 8 bits, the scale and zero point that they
/// share, and the bias.
#[derive(Clone, Copy, Debug)]
pub struct OutputRow<'a> {
    codes: &'a [i8],
    params: QuantParams,
    bias: Option<f32>,
}

impl<'a> OutputRow<'a> {
    /// The output with a code for each input. Without a bias nothing is added: adding 0 would turn
    /// `-0.0` into `+0.0`.
    ///
    /// # Errors
    /// So many codes that the sum of their products could exceed an i32.
    pub const fn new(
        codes: &'a [i8],
        params: QuantParams,
        bias: Option<f32>,
    ) -> Result<Self, RowError> {
        let limit = longest(params.zero_point());
        if codes.len() > limit {
            return Err(RowError::TooLong { k: codes.len(), limit });
        }
        Ok(Self { codes, params, bias })
    }

    /// `Σ (x - zero_point) · (w - zw)` over the codes of the inputs, exactly.
    ///
    /// # Errors
    /// Another number of inputs than of weights.
    pub fn sum(&self, x: &[i8], zero_point: i8) -> Result<i32, RowError> {
        if x.len() != self.codes.len() {
            return Err(RowError::InputLength { expected: self.codes.len(), found: x.len() });
        }
        let (za, zw) = (i32::from(zero_point), i32::from(self.params.zero_point()));
        let terms = x.iter().zip(self.codes);
        let terms = terms.map(|(x, w)| (i32::from(*x) - za) * (i32::from(*w) - zw));
        // `new` has checked that no sum overflows.
        Ok(terms.fold(0i32, i32::wrapping_add))
    }

    /// The output for inputs with these codes: `f32(sum) * (sa * sw) + bias`, each operation rounded.
    ///
    /// # Errors
    /// Another number of inputs than of weights.
    pub fn product(&self, x: &[i8], x_params: QuantParams) -> Result<f32, RowError> {
        let sum = self.sum(x, x_params.zero_point())?;
        let y = sum as f32 * (x_params.scale() * self.params.scale());
        Ok(self.bias.map_or(y, |bias| y + bias))
    }
}

/// Writes `clamp(rne(value / scale) + zero_point, min, max)` for each value, with a true division and
/// ties rounded to even. Infinities saturate.
///
/// # Errors
/// A NaN; another number of values than of codes.
pub fn quantize(
    values: impl IntoIterator<Item = f32>,
    quantization: Quantization,
    codes: &mut [i8],
) -> Result<(), RowError> {
    let (expected, mut found) = (codes.len(), 0);
    let mut codes = codes.iter_mut();
    for value in values {
        if value.is_nan() {
            return Err(RowError::Nan { index: found });
        }
        let Some(code) = codes.next() else {
            return Err(RowError::InputLength { expected, found: found + 1 });
        };
        *code = quantize_one(value, quantization);
        found += 1;
    }
    match codes.next() {
        Some(_) => Err(RowError::InputLength { expected, found }),
        None => Ok(()),
    }
}

fn quantize_one(value: f32, Quantization { params, codes }: Quantization) -> i8 {
    let code = round_code(value / params.scale()) + i32::from(params.zero_point());
    code.clamp(codes.min().into(), codes.max().into()) as i8
}

/// The greatest number of products whose sum fits an i32, whatever the codes and the zero point of the
/// inputs are.
const fn longest(zero_point: i8) -> usize {
    let (below, above) = (zero_point as i32 + 128, 127 - zero_point as i32);
    let reach = if below > above { below } else { above };
    (i32::MAX / (255 * reach)) as usize
}

/// Why a row is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowError {
    /// Sums of so many products could exceed an i32.
    TooLong {
        /// The number of weights.
        k: usize,
        /// The greatest number for their zero point.
        limit: usize,
    },
    /// Another number of inputs than of weights, or of values than of codes.
    InputLength {
        /// The number that is needed.
        expected: usize,
        /// The number there is; where values come from an iterator, at least as many.
        found: usize,
    },
    /// A value is not a number.
    Nan {
        /// Its position.
        index: usize,
    },
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { k, limit } => {
                write!(f, "sums of {k} products could overflow; at most {limit} are allowed")
            }
            Self::InputLength { expected, found } => {
                write!(f, "{found} inputs in place of {expected}")
            }
            Self::Nan { index } => write!(f, "the input at {index} is not a number"),
        }
    }
}

impl core::error::Error for RowError {}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
    use crate::scheme::{Axis, CodeRange, Granularity};
    use crate::{Activations, Codes, Epilogue, Kernel, Output, PackedWeights, Scratch, Weights};

    fn next(seed: &mut u64) -> u64 {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }

    /// A random layer of `n` outputs and `k` inputs, and values on both sides of its input's range.
    struct Layer {
        codes: Vec<i8>,
        scales: Vec<f32>,
        zero_points: Vec<i8>,
        bias: Vec<f32>,
        values: Vec<f32>,
        input: Quantization,
    }

    impl Layer {
        fn random(n: usize, k: usize, seed: &mut u64) -> Self {
            let unit = |seed: &mut u64| next(seed) as f32 / (1u64 << 30) as f32 - 1.0;
            let params = QuantParams::new(0.01 + next(seed) as f32 * 1e-11, next(seed) as i8);
            Self {
                codes: (0..n * k).map(|_| next(seed) as i8).collect(),
                scales: (0..n).map(|_| 1e-3 + next(seed) as f32 * 1e-11).collect(),
                zero_points: (0..n).map(|_| next(seed) as i8).collect(),
                bias: (0..n).map(|_| unit(seed)).collect(),
                values: (0..k).map(|_| 3.0 * unit(seed)).collect(),
                input: Quantization::new(params.unwrap(), CodeRange::new(-100, 110).unwrap()),
            }
        }

        fn by_kernel(&self, kernel: Kernel, bias: bool) -> Vec<u32> {
            let (n, k) = (self.scales.len(), self.values.len());
            let weights = Weights {
                n,
                k,
                codes: Codes::Bytes(&self.codes),
                granularity: Granularity::PerChannel(Axis::FIRST),
                scales: &self.scales,
                zero_points: &self.zero_points,
                minimums: &[],
            };
            let weights = PackedWeights::new(kernel, &weights).unwrap();
            let mut out = alloc::vec![0.0; n];
            let x = Activations::Static { values: &self.values, m: 1, quantization: self.input };
            let bias = bias.then_some(&self.bias[..]);
            let epilogue = Epilogue { bias, ..Epilogue::default() };
            let mut scratch = Scratch::new();
            kernel.linear(&weights, x, &epilogue, Output::F32(&mut out), &mut scratch).unwrap();
            out.into_iter().map(f32::to_bits).collect()
        }

        fn by_rows(&self, bias: bool) -> Vec<u32> {
            let k = self.values.len();
            let mut codes = alloc::vec![0; k];
            quantize(self.values.iter().copied(), self.input, &mut codes).unwrap();
            let output = |n: usize| {
                let params = QuantParams::new(self.scales[n], self.zero_points[n]).unwrap();
                let bias = bias.then_some(self.bias[n]);
                let row = OutputRow::new(&self.codes[n * k..][..k], params, bias).unwrap();
                row.product(&codes, self.input.params).unwrap().to_bits()
            };
            (0..self.scales.len()).map(output).collect()
        }
    }

    #[test]
    fn products_have_the_bits_of_every_kernel() {
        let mut seed = 1;
        for k in (1..40).chain([64, 127, 1000]) {
            let layer = Layer::random(7, k, &mut seed);
            for kernel in Kernel::available() {
                for bias in [false, true] {
                    assert_eq!(layer.by_rows(bias), layer.by_kernel(kernel, bias), "{k}");
                }
            }
        }
    }

    #[test]
    fn the_longest_rows_of_extreme_codes_do_not_overflow() {
        for zero_point in [-128, -1, 0, 127] {
            let limit = longest(zero_point);
            let code = if zero_point < 0 { 127 } else { -128 };
            let codes = alloc::vec![code; limit + 1];
            let params = QuantParams::new(1.0, zero_point).unwrap();
            let row = OutputRow::new(&codes[..limit], params, None).unwrap();
            let x = alloc::vec![127; limit];
            let exact = 255 * i64::from(i32::from(code) - i32::from(zero_point)) * limit as i64;
            assert_eq!(i64::from(row.sum(&x, -128).unwrap()), exact);
            let error = OutputRow::new(&codes, params, None).unwrap_err();
            assert_eq!(error, RowError::TooLong { k: limit + 1, limit });
            assert!(error.to_string().contains("could overflow"));
        }
    }

    #[test]
    fn rejects_inputs_that_do_not_fit() {
        let row = OutputRow::new(&[1, 2], QuantParams::UNIT, None).unwrap();
        let error = row.product(&[1], QuantParams::UNIT).unwrap_err();
        assert_eq!(error.to_string(), "1 inputs in place of 2");
        let input = Quantization::full_range(QuantParams::UNIT);
        for (values, found) in [(&[1.0][..], 1), (&[1.0; 4], 3)] {
            let error = quantize(values.iter().copied(), input, &mut [0; 2]).unwrap_err();
            assert_eq!(error, RowError::InputLength { expected: 2, found });
        }
        let error = quantize([f32::INFINITY, f32::NAN], input, &mut [0; 2]).unwrap_err();
        assert_eq!(error.to_string(), "the input at 1 is not a number");
    }
}
