//! The integer product (`docs/numerics.md`, rule 6).
//!
//! Imports `pack` and the layers below. Start with `driver`, which assigns work to threads; the loops are
//! in `macrokernel` and `microkernel`.

mod block;
pub(crate) mod check;
pub(crate) mod driver;
pub(crate) mod epilogue;
mod macrokernel;
mod microkernel;
pub(crate) mod scratch;
pub(crate) mod shared;
mod tile_output;

pub use epilogue::{Epilogue, Output};
pub use scratch::Scratch;

use self::check::{length, one_or_each};
use self::driver::GemmCall;
use self::epilogue::Strides;
use crate::dispatch::Kernel;
use crate::error::LinearError;
use crate::pack::b::PackedWeights;
use crate::pack::source::{CodeRows, FloatRows, RangeOf, Source, params_of};
use crate::scheme::{
    DynamicGranularity, DynamicQuantization, Grid, Quantization, QuantizationType, ScaleType,
};

/// Activations, `[m, k]` in row-major order, and how they are quantized.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Activations<'a> {
    /// 8-bit codes.
    Codes {
        /// `m` rows of `k` codes.
        codes: &'a [i8],
        /// The number of rows.
        m: usize,
        /// One scale for all rows, or one per row.
        scales: &'a [f32],
        /// One zero point for all rows, or one per row; empty if all are zero.
        zero_points: &'a [i8],
    },
    /// Floats that are quantized to 8 bits by the range that they have (rule 7).
    Dynamic {
        /// `m` rows of `k` values.
        values: &'a [f32],
        /// The number of rows.
        m: usize,
        /// Mapping and granularity.
        quantization: DynamicQuantization,
    },
    /// Floats that are quantized with parameters from calibration.
    Static {
        /// `m` rows of `k` values.
        values: &'a [f32],
        /// The number of rows.
        m: usize,
        /// The same for all rows.
        quantization: Quantization,
    },
    /// Floats that are not quantized: weight-only (rule 11). Weights packed by
    /// [`PackedWeights::for_floats`] are the fastest.
    Float {
        /// `m` rows of `k` values.
        values: &'a [f32],
        /// Rows.
        m: usize,
    },
}

/// One of several products of the same rows: an argument of [`Kernel::linears`].
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights.
    pub weights: &'a PackedWeights,
    /// What is applied to each output.
    pub epilogue: Epilogue<'a>,
    /// The destination, `[m, n]`.
    pub output: Output<'a>,
}

impl Kernel {
    /// Writes `x · wᵀ`, `[m, n]`, for packed weights `w` `[n, k]`.
    ///
    /// Where activations are quantized, the sums of products of codes are exact (rule 6).
    ///
    /// # Errors
    /// - The weights are packed for another kernel.
    /// - A slice has the wrong length.
    /// - [`Activations::Dynamic`]: a value is NaN or infinite. [`Activations::Static`]: a value is
    ///   NaN; infinities saturate.
    /// - [`Output::I32`]: the weights have blocks along K or minimums, or activations stay floats or have
    ///   blocks.
    /// - Activations have blocks whose length does not divide that of the weights' blocks, or for which the
    ///   weights are not packed ([`PackedWeights::for_dynamic`]).
    /// - The weights are packed for other activations: for floats, or for those without zero points.
    ///
    /// After an error the output is unspecified.
    pub fn linear(
        self,
        weights: &PackedWeights,
        x: Activations<'_>,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        let products = &mut [Product { weights, epilogue: *epilogue, output }];
        self.linears(x, products, scratch)
    }

    /// Writes several products of the same rows, as [`Kernel::linear`] does, with the same bits.
    ///
    /// Neighbouring products whose weights are packed alike (the same K, blocks, bits and mapping) share the work
    /// on the rows: activations are quantized and packed once, and all outputs are handed to the threads together.
    /// Query, key and value of attention are such products.
    ///
    /// # Errors
    /// As [`Kernel::linear`], for the first product that has one. After an error all outputs are unspecified.
    pub fn linears(
        self,
        x: Activations<'_>,
        products: &mut [Product<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        let Some(k) = products.first().map(|product| product.weights.k) else { return Ok(()) };
        let lengths = |m: usize, found: usize| {
            let expected = |of: &Product<'_>| m.saturating_mul(of.weights.k);
            products.iter().try_for_each(|of| length("activations", expected(of), found))
        };
        match x {
            Activations::Codes { codes, m, scales, zero_points } => {
                lengths(m, codes.len())?;
                one_or_each("activation scales", m, scales.len())?;
                if !zero_points.is_empty() {
                    one_or_each("activation zero points", m, zero_points.len())?;
                }
                let source = CodeRows { codes, k, scales, zero_points };
                self.multiply_rows(source, m, products, scratch)
            }
            Activations::Dynamic { values, m, quantization } => {
                lengths(m, values.len())?;
                let DynamicQuantization { mapping, granularity } = quantization;
                let grid = Grid::new(QuantizationType::QInt8, mapping.into(), ScaleType::F32);
                let range = match granularity {
                    DynamicGranularity::Row => RangeOf::Row(grid),
                    DynamicGranularity::Block(len) => RangeOf::Block(grid, len.get() as usize),
                    DynamicGranularity::Tensor => {
                        let (lo, hi) = self.min_max(values)?;
                        RangeOf::Finite(params_of(grid, lo, hi).into())
                    }
                };
                let source = FloatRows::new(values, k, range, grid.into());
                self.multiply_rows(source, m, products, scratch)
            }
            Activations::Static { values, m, quantization: Quantization { params, codes } } => {
                lengths(m, values.len())?;
                let source = FloatRows::new(values, k, RangeOf::Given(params.into()), codes);
                self.multiply_rows(source, m, products, scratch)
            }
            Activations::Float { values, m } => products.iter_mut().try_for_each(|product| {
                let Product { weights, epilogue, output } = product;
                let output = output.part(0, output.len());
                self.linear_weight_only(weights, values, m, epilogue, output, scratch)
            }),
        }
    }

    /// Runs products that share rows together, up to [`TOGETHER`] at a time.
    fn multiply_rows<S: Source>(
        self,
        source: S,
        m: usize,
        mut products: &mut [Product<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        while let Some((first, rest)) = products.split_first_mut() {
            let weights = first.weights;
            let alike = |of: &&mut Product<'_>| weights.shares_rows(of.weights);
            let count = rest.iter_mut().take(TOGETHER - 1).take_while(alike).count();
            let (now, later) = rest.split_at_mut(count);
            let of_rows = self.call(first, m);
            let output = first.output.part(0, first.output.len());
            if let Some(gemm) = of_rows.prepare(&source, output)? {
                let mut gemms = [gemm; TOGETHER];
                let mut done = 1;
                for product in now {
                    let call = self.call(product, m);
                    let output = product.output.part(0, product.output.len());
                    if let Some(gemm) = call.prepare(&source, output)? {
                        gemms[done] = gemm;
                        done += 1;
                    }
                }
                of_rows.run_all(source, &mut gemms[..done], scratch)?;
            }
            products = later;
        }
        Ok(())
    }

    fn call<'a>(self, of: &Product<'a>, m: usize) -> GemmCall<'a> {
        let Product { weights, epilogue, .. } = *of;
        GemmCall { kernel: self, weights, m, epilogue, strides: Strides::by_rows(weights.n) }
    }
}

/// The most products that are run together.
const TOGETHER: usize = 8;
