//! The integer product (`docs/numerics.md`, rule 6).
//!
//! Imports `pack` and what is below it. Start with `driver`, which says who computes what; the loops
//! are in `macrokernel` and `microkernel`.

pub(crate) mod check;
pub(crate) mod driver;
pub(crate) mod epilogue;
pub(crate) mod macrokernel;
mod microkernel;
pub(crate) mod scratch;
pub(crate) mod shared;

pub use epilogue::{Epilogue, Output};
pub use scratch::Scratch;

use self::check::{length, one_or_each, range};
use self::driver::Call;
use self::epilogue::Strides;
use crate::dispatch::Kernel;
use crate::error::LinearError;
use crate::pack::b::PackedWeights;
use crate::pack::source::{CodeRows, FloatRows, RangeOf, Row, row_of};
use crate::scheme::{Dynamic, Grid, QuantizationType, ScaleType, Static};

/// Quantized activations, `[m, k]` in row-major order.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// `m` rows of codes.
    pub codes: &'a [i8],
    /// Rows.
    pub m: usize,
    /// One scale for all rows, or one for each.
    pub scales: &'a [f32],
    /// As many zero points, or one, or none if all are zero.
    pub zero_points: &'a [i8],
}

impl Kernel {
    /// `x · wᵀ` for floats `x` `[m, k]` that are quantized by their own range.
    ///
    /// # Errors
    /// - the weights are packed for another kernel;
    /// - a slice has the wrong length;
    /// - codes are to be in a range that has none;
    /// - an activation is NaN or infinite;
    /// - sums are asked for, and the weights have blocks.
    ///
    /// After an error the output is unspecified.
    #[allow(clippy::too_many_arguments)]
    pub fn linear_dynamic(
        self,
        weights: &PackedWeights,
        x: &[f32],
        m: usize,
        dynamic: Dynamic,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        length("activations", m.saturating_mul(weights.k), x.len())?;
        let grid = Grid::new(QuantizationType::QInt8, dynamic.mapping, ScaleType::F32);
        let (qmin, qmax) = grid.code_range();
        let range = if dynamic.per_row {
            RangeOf::Row(grid)
        } else {
            let (lo, hi) = self.min_max(x)?;
            RangeOf::Finite(row_of(grid, lo, hi))
        };
        let source = FloatRows { values: x, k: weights.k, range, qmin, qmax };
        let call =
            Call { kernel: self, weights, m, epilogue, strides: Strides::by_rows(weights.n) };
        call.run(source, output, scratch)
    }

    /// `x · wᵀ` for floats `x` `[m, k]` that are quantized with given parameters.
    ///
    /// # Errors
    /// As [`Kernel::linear_dynamic`], but infinite activations saturate; NaN is an error.
    #[allow(clippy::too_many_arguments)]
    pub fn linear_static(
        self,
        weights: &PackedWeights,
        x: &[f32],
        m: usize,
        quantization: Static,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        length("activations", m.saturating_mul(weights.k), x.len())?;
        range(quantization.range)?;
        let Static { scale, zero_point, range: (qmin, qmax) } = quantization;
        let range = RangeOf::Given(Row::new(scale, i32::from(zero_point)));
        let (qmin, qmax) = (i32::from(qmin), i32::from(qmax));
        let source = FloatRows { values: x, k: weights.k, range, qmin, qmax };
        let call =
            Call { kernel: self, weights, m, epilogue, strides: Strides::by_rows(weights.n) };
        call.run(source, output, scratch)
    }

    /// `x · wᵀ` for activations that are codes already.
    ///
    /// # Errors
    /// As [`Kernel::linear_dynamic`], except that every activation is good.
    pub fn linear_i8(
        self,
        weights: &PackedWeights,
        x: Activations<'_>,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        length("activations", x.m.saturating_mul(weights.k), x.codes.len())?;
        one_or_each("activation scales", x.m, x.scales.len())?;
        if !x.zero_points.is_empty() {
            one_or_each("activation zero points", x.m, x.zero_points.len())?;
        }
        let Activations { codes, m, scales, zero_points } = x;
        let source = CodeRows { codes, k: weights.k, scales, zero_points };
        let call =
            Call { kernel: self, weights, m, epilogue, strides: Strides::by_rows(weights.n) };
        call.run(source, output, scratch)
    }
}
