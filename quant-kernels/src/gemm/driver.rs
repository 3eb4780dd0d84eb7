//! A product of rows with packed weights: what is prepared where, and which threads do which part.
//!
//! ```text
//! many rows   each worker: for some of its tiles
//!               quantize the rows, multiply them with all panels
//! few rows    each worker: quantize a part of the rows
//!             each worker: multiply all rows with its own panels
//! ```

use crate::dispatch::Kernel;
use crate::error::LinearError;
use crate::gemm::check::length;
use crate::gemm::epilogue::{Epilogue, Output, Strides, Target};
use crate::gemm::macrokernel::{Prepared, Whole};
use crate::gemm::scratch::{Room, Scratch, Worker, grown};
use crate::isa::Line;
use crate::pack::a::Prepare;
use crate::pack::b::PackedWeights;
use crate::pack::source::{Row, Source};
use crate::pack::tiling::Tiling;
use crate::parallel::{Shares, both, fork};
use crate::scheme::NonFinite;
use core::ops::Range;

/// Bytes of prepared rows that are multiplied with all panels before the next ones are prepared:
/// half of a small second-level cache, so that a panel finds room beside them.
const BLOCK_BYTES: usize = 256 << 10;

/// A product that is about to run.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) weights: &'a PackedWeights,
    pub(crate) m: usize,
    pub(crate) epilogue: &'a Epilogue<'a>,
    pub(crate) strides: Strides,
}

impl Call<'_> {
    pub(crate) fn check(&self, output: &Output<'_>) -> Result<(), LinearError> {
        let weights = self.weights;
        if weights.kernel != self.kernel {
            let (packed_for, called) = (weights.kernel.name(), self.kernel.name());
            return Err(LinearError::OtherKernel { packed_for, called });
        }
        if let Some(bias) = self.epilogue.bias {
            length("bias", weights.n, bias.len())?;
        }
        if matches!(output, Output::I32(_)) && weights.segments() > 1 {
            return Err(LinearError::NoIntegerSums);
        }
        Ok(())
    }

    /// The rows of the source times the weights; the caller has checked the source's length.
    pub(crate) fn run<S: Source>(
        self,
        source: S,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        self.check(&output)?;
        length("output", self.m.saturating_mul(self.weights.n), output.len())?;
        if self.m == 0 || self.weights.n == 0 {
            return Ok(());
        }
        let Self { weights, m, epilogue, strides, .. } = self;
        let count = scratch.workers_for(self.kernel, &[m, weights.n, weights.k.max(1)]);
        let many = count == 1 || m.div_ceil(weights.tallest) >= 2 * count;
        let tiling = Tiling::new(m, weights.tallest, if many { count } else { 1 });
        let target = Target::new(output);
        let whole = Whole { weights, tiling, epilogue: *epilogue, target, strides };
        if many {
            self.rows_apart(source, whole, &mut scratch.workers[..count]);
        } else {
            let slots = Slots::new(&mut scratch.shared, m, weights);
            let workers = &mut scratch.workers[..count];
            self.prepare_apart(source, tiling, 0..tiling.tiles(), slots, workers);
            scratch.take_error()?;
            let prepared = prepared(&scratch.shared, &whole, 0..m);
            self.panels_apart(prepared, whole, &mut scratch.workers[..count]);
        }
        Ok(scratch.take_error()?)
    }

    /// Each worker quantizes its own rows and multiplies them with all weights: many rows.
    fn rows_apart<S: Source>(&self, source: S, whole: Whole<'_>, workers: &mut [Worker]) {
        let shares = Shares::new(whole.tiling.tiles(), workers.len());
        let row_bytes = self.weights.lines * size_of::<Line>();
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
        let rows = whole.tiling.rows_of(tiles.clone());
        let slots = Slots::new(&mut worker.room, rows.len(), self.weights);
        self.prepare(source, whole.tiling, tiles.clone(), slots)?;
        let prepared = prepared(&worker.room, whole, rows);
        let room = grown(&mut worker.unpacked, self.unpacked_lines(), Line::ZERO);
        // SAFETY: shares have no tile in common, and the target is borrowed mutably for the whole
        // call. Different elements have different places (`Strides`).
        let part = unsafe { whole.part(tiles, 0..self.weights.panels(), prepared, room) };
        part.run();
        Ok(())
    }

    /// Each worker quantizes a part of the rows, for all of them.
    fn prepare_apart<S: Source>(
        &self,
        source: S,
        tiling: Tiling,
        tiles: Range<usize>,
        slots: Slots<'_>,
        workers: &mut [Worker],
    ) {
        if workers.len() < 2 || tiles.len() < 2 {
            if let (Err(error), [worker, ..]) =
                (self.prepare(source, tiling, tiles, slots), workers)
            {
                worker.error = Some(error);
            }
            return;
        }
        let half = workers.len() / 2;
        let middle = tiles.start + (tiles.len() * half).div_ceil(workers.len());
        let (first, second) = (tiles.start..middle, middle..tiles.end);
        let (left, right) = workers.split_at_mut(half);
        let rows = tiling.rows_of(first.clone()).len();
        let (before, after) = slots.split_at(rows, self.weights);
        both(
            || self.prepare_apart(source, tiling, first, before, left),
            || self.prepare_apart(source, tiling, second, after, right),
        );
    }

    fn prepare<S: Source>(
        &self,
        source: S,
        tiling: Tiling,
        tiles: Range<usize>,
        slots: Slots<'_>,
    ) -> Result<(), NonFinite> {
        let Self { kernel, weights, .. } = *self;
        let Slots { lines, rows, sums, starts } = slots;
        let prepare = Prepare { source, weights, tiling, tiles, lines, rows, sums, starts };
        kernel.run_as(weights.arithmetic, prepare)
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
                part.run();
            }
        });
    }

    /// Lines of an unpacked panel.
    fn unpacked_lines(&self) -> usize {
        self.weights.unpacked_panel_bytes() / size_of::<Line>()
    }
}

/// Where some rows are prepared.
struct Slots<'a> {
    lines: &'a mut [Line],
    rows: &'a mut [Row],
    sums: &'a mut [i32],
    starts: &'a mut [i32],
}

impl<'a> Slots<'a> {
    fn new(room: &'a mut Room, rows: usize, weights: &PackedWeights) -> Self {
        let each = rows * weights.segments();
        Self {
            lines: grown(&mut room.lines, rows * weights.lines, Line::ZERO),
            rows: grown(&mut room.rows, rows, Row::new(1.0, 0)),
            sums: grown(&mut room.sums, if weights.has_zeros() { each } else { 0 }, 0),
            starts: grown(&mut room.starts, if weights.row_starts { each } else { 0 }, 0),
        }
    }

    /// Those of the first rows, and those of the others.
    fn split_at(self, rows: usize, weights: &PackedWeights) -> (Self, Self) {
        let each = rows * weights.segments();
        let (lines, other_lines) = self.lines.split_at_mut(rows * weights.lines);
        let (rows, other_rows) = self.rows.split_at_mut(rows);
        let (sums, other_sums) = self.sums.split_at_mut(each.min(self.sums.len()));
        let (starts, other_starts) = self.starts.split_at_mut(each.min(self.starts.len()));
        (
            Self { lines, rows, sums, starts },
            Self { lines: other_lines, rows: other_rows, sums: other_sums, starts: other_starts },
        )
    }
}

fn prepared<'a>(room: &'a Room, whole: &Whole<'_>, rows: Range<usize>) -> Prepared<'a> {
    let weights = whole.weights;
    let each = rows.len() * weights.segments();
    Prepared {
        first: rows.start,
        lines: &room.lines[..rows.len() * weights.lines],
        rows: &room.rows[..rows.len()],
        sums: &room.sums[..if weights.has_zeros() { each } else { 0 }],
        starts: &room.starts[..if weights.row_starts { each } else { 0 }],
    }
}
