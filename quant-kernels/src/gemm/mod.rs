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
    ///   weights are not packed ([`PackedWeights::for_blocks`]).
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
        let k = weights.k;
        match x {
            Activations::Codes { codes, m, scales, zero_points } => {
                length("activations", m.saturating_mul(k), codes.len())?;
                one_or_each("activation scales", m, scales.len())?;
                if !zero_points.is_empty() {
                    one_or_each("activation zero points", m, zero_points.len())?;
                }
                let source = CodeRows { codes, k, scales, zero_points };
                self.multiply_rows(weights, source, m, epilogue, output, scratch)
            }
            Activations::Dynamic { values, m, quantization } => {
                length("activations", m.saturating_mul(k), values.len())?;
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
                self.multiply_rows(weights, source, m, epilogue, output, scratch)
            }
            Activations::Static { values, m, quantization: Quantization { params, codes } } => {
                length("activations", m.saturating_mul(k), values.len())?;
                let source = FloatRows::new(values, k, RangeOf::Given(params.into()), codes);
                self.multiply_rows(weights, source, m, epilogue, output, scratch)
            }
            Activations::Float { values, m } => {
                self.linear_weight_only(weights, values, m, epilogue, output, scratch)
            }
        }
    }

    fn multiply_rows<S: Source>(
        self,
        weights: &PackedWeights,
        source: S,
        m: usize,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        let strides = Strides::by_rows(weights.n);
        GemmCall { kernel: self, weights, m, epilogue, strides }.run(source, output, scratch)
    }
}
