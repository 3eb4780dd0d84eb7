//! Linear layers on slices.

use super::dispatch::Kernel;
use super::error::LinearError;
use super::isa::Line;
use super::output::{Epilogue, Output, Strides, Target};
use super::product::{Prepared, Whole};
use super::rows::{CodeRows, FloatRows, Prepare, RangeOf, Row, Source, Tiling, row_of};
use super::threads::{Room, Scratch, Shares, Worker, fork, grown};
use super::weights::PackedWeights;
use crate::scheme::{Grid, Mapping, NonFinite, QuantizationType, ScaleType};
use core::ops::Range;

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

/// How activations are quantized by the range they have (rule 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dynamic {
    /// Affine, unless told otherwise.
    pub mapping: Mapping,
    /// Whether each row has its own range, so that its result does not depend on the others.
    pub per_row: bool,
}

impl Default for Dynamic {
    fn default() -> Self {
        Self { mapping: Mapping::Affine, per_row: true }
    }
}

/// How activations are quantized when their range is fixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Static {
    /// The scale.
    pub scale: f32,
    /// The zero point.
    pub zero_point: i8,
    /// The least and the greatest code.
    pub range: (i8, i8),
}

impl Kernel {
    /// `x · wᵀ` for floats `x` `[m, k]` that are quantized by their own range.
    ///
    /// # Errors
    /// - the weights are packed for another kernel;
    /// - a slice has the wrong length;
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
        length("activations", m * weights.k, x.len())?;
        let grid = Grid::new(QuantizationType::QInt8, dynamic.mapping, ScaleType::F32);
        let (qmin, qmax) = grid.code_range();
        let range = if dynamic.per_row {
            RangeOf::Row(grid)
        } else {
            let (lo, hi) = self.min_max(x)?;
            RangeOf::Finite(row_of(grid, lo, hi))
        };
        let source = FloatRows { values: x, k: weights.k, range, qmin, qmax };
        let call = Call { kernel: self, weights, m, epilogue, strides: by_rows(weights.n) };
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
        length("activations", m * weights.k, x.len())?;
        let Static { scale, zero_point, range: (qmin, qmax) } = quantization;
        let range = RangeOf::Given(Row::new(scale, i32::from(zero_point)));
        let (qmin, qmax) = (i32::from(qmin), i32::from(qmax));
        let source = FloatRows { values: x, k: weights.k, range, qmin, qmax };
        let call = Call { kernel: self, weights, m, epilogue, strides: by_rows(weights.n) };
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
        length("activations", x.m * weights.k, x.codes.len())?;
        one_or_each("activation scales", x.m, x.scales.len())?;
        if !x.zero_points.is_empty() {
            one_or_each("activation zero points", x.m, x.zero_points.len())?;
        }
        let Activations { codes, m, scales, zero_points } = x;
        let source = CodeRows { codes, k: weights.k, scales, zero_points };
        let call = Call { kernel: self, weights, m, epilogue, strides: by_rows(weights.n) };
        call.run(source, output, scratch)
    }
}

pub(super) fn by_rows(n: usize) -> Strides {
    Strides { row: n, column: 1 }
}

pub(super) fn length(of: &'static str, expected: usize, found: usize) -> Result<(), LinearError> {
    if expected == found { Ok(()) } else { Err(LinearError::Length { of, expected, found }) }
}

fn one_or_each(of: &'static str, m: usize, found: usize) -> Result<(), LinearError> {
    if found == 1 { Ok(()) } else { length(of, m, found) }
}

/// Bytes of prepared rows that are multiplied with all panels before the next ones are prepared:
/// half of a small second-level cache, so that a panel finds room beside them.
const BLOCK_BYTES: usize = 256 << 10;

/// A product that is about to run.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) kernel: Kernel,
    pub(super) weights: &'a PackedWeights,
    pub(super) m: usize,
    pub(super) epilogue: &'a Epilogue<'a>,
    pub(super) strides: Strides,
}

impl Call<'_> {
    pub(super) fn check(&self, output: &Output<'_>) -> Result<(), LinearError> {
        let weights = self.weights;
        if weights.kernel != self.kernel {
            let (packed_for, called) = (weights.kernel.name(), self.kernel.name());
            return Err(LinearError::OtherKernel { packed_for, called });
        }
        if let Some(bias) = self.epilogue.bias {
            length("bias", weights.n, bias.len())?;
        }
        if matches!(output, Output::Sums(_)) && weights.segments() > 1 {
            return Err(LinearError::NoIntegerSums);
        }
        Ok(())
    }

    /// The rows of the source times the weights; the caller has checked the source's length.
    pub(super) fn run<S: Source>(
        self,
        source: S,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        self.check(&output)?;
        length("output", self.m * self.weights.n, output.len())?;
        if self.m == 0 || self.weights.n == 0 {
            return Ok(());
        }
        self.run_checked(source, output, scratch)
    }

    pub(super) fn run_checked<S: Source>(
        self,
        source: S,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        let Self { weights, m, epilogue, strides, .. } = self;
        let tiling = Tiling::new(m, weights.tallest);
        let target = Target::new(output);
        let whole = Whole { weights, tiling, epilogue: *epilogue, target, strides };
        let workers = scratch.workers_for(m * weights.n * weights.k.max(1));
        if workers == 1 || tiling.tiles() >= 2 * workers {
            self.rows_apart(source, whole, &mut scratch.workers[..workers]);
        } else {
            prepare(self.kernel, source, &whole, 0..tiling.tiles(), &mut scratch.shared)?;
            let prepared = prepared(&scratch.shared, &whole, 0..m);
            self.panels_apart(prepared, whole, &mut scratch.workers[..workers]);
        }
        Ok(scratch.take_error()?)
    }

    /// Each worker quantizes its own rows and multiplies them with all weights: many rows.
    fn rows_apart<S: Source>(&self, source: S, whole: Whole<'_>, workers: &mut [Worker]) {
        let shares = Shares::new(whole.tiling.tiles(), workers.len());
        let row_bytes = self.weights.lines() * size_of::<Line>();
        let at_a_time = (BLOCK_BYTES / row_bytes.max(1) / self.weights.tallest).max(1);
        fork(workers, &|worker| {
            while let Some(share) = shares.next() {
                for start in share.clone().step_by(at_a_time) {
                    let tiles = start..share.end.min(start + at_a_time);
                    if let Err(error) = self.rows(source, &whole, tiles, worker) {
                        worker.error = Some(error);
                        return;
                    }
                }
            }
        });
    }

    /// Some tiles times all panels. No other worker has these tiles at the same time.
    fn rows<S: Source>(
        &self,
        source: S,
        whole: &Whole<'_>,
        tiles: Range<usize>,
        worker: &mut Worker,
    ) -> Result<(), NonFinite> {
        prepare(self.kernel, source, whole, tiles.clone(), &mut worker.room)?;
        let rows = whole.tiling.rows(tiles.start).start..whole.tiling.rows(tiles.end - 1).end;
        let prepared = prepared(&worker.room, whole, rows);
        let room = grown(&mut worker.unpacked, self.unpacked_lines(), Line::ZERO);
        // SAFETY: shares have no tile in common, and the target is borrowed mutably for the whole
        // call. The strides are those of a matrix.
        let part = unsafe { whole.part(tiles, 0..self.weights.panels(), prepared, room) };
        self.kernel.multiply(self.weights.arithmetic, part);
        Ok(())
    }

    /// Each worker multiplies all rows with its own panels: few rows.
    fn panels_apart(&self, prepared: Prepared<'_>, whole: Whole<'_>, workers: &mut [Worker]) {
        let shares = Shares::new(self.weights.panels(), workers.len());
        fork(workers, &|worker| {
            while let Some(panels) = shares.next() {
                let room = grown(&mut worker.unpacked, self.unpacked_lines(), Line::ZERO);
                let tiles = 0..whole.tiling.tiles();
                // SAFETY: shares have no panel in common; else as above.
                let part = unsafe { whole.part(tiles, panels, prepared, room) };
                self.kernel.multiply(self.weights.arithmetic, part);
            }
        });
    }

    /// Lines of an unpacked panel; none if panels are not packed.
    fn unpacked_lines(&self) -> usize {
        if self.weights.bits == 8 {
            0
        } else {
            self.weights.unpacked_panel_bytes() / size_of::<Line>()
        }
    }
}

fn prepare<S: Source>(
    kernel: Kernel,
    source: S,
    whole: &Whole<'_>,
    tiles: Range<usize>,
    room: &mut Room,
) -> Result<(), NonFinite> {
    let (weights, tiling) = (whole.weights, whole.tiling);
    let rows = tiling.rows(tiles.end - 1).end - tiling.rows(tiles.start).start;
    let each = rows * weights.segments();
    let sums = if weights.has_zeros() { each } else { 0 };
    let prepare = Prepare {
        source,
        weights,
        tiling,
        tiles,
        lines: grown(&mut room.lines, rows * weights.lines(), Line::ZERO),
        rows: grown(&mut room.rows, rows, Row::new(1.0, 0)),
        sums: grown(&mut room.sums, sums, 0),
        crosses: grown(&mut room.crosses, if weights.crosses { each } else { 0 }, 0),
    };
    kernel.run_as(weights.arithmetic, prepare)
}

fn prepared<'a>(room: &'a Room, whole: &Whole<'_>, rows: Range<usize>) -> Prepared<'a> {
    Prepared {
        first: rows.start,
        lines: &room.lines[..rows.len() * whole.weights.lines()],
        rows: &room.rows[..rows.len()],
        sums: &room.sums,
        crosses: &room.crosses,
    }
}
