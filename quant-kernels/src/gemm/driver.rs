//! The driver of integer products: which thread packs and multiplies which part.
//!
//! ```text
//! many rows   each worker, for some tiles:
//!               packs their rows, multiplies them with all panels
//! few rows    each worker: packs some of the rows
//!             each worker: multiplies all rows with some of the panels
//! ```
//! Several products may take the same packed rows. Their panels are then shared out together.

use super::block::{Gemm, PackedA};
use crate::dispatch::Kernel;
use crate::error::LinearError;
use crate::gemm::check::length;
use crate::gemm::epilogue::{Epilogue, Output, Strides, Target};
use crate::gemm::scratch::{PackedABuffers, Scratch, Worker, grown};
use crate::isa::Line;
use crate::pack::a::PackA;
use crate::pack::b::PackedWeights;
use crate::pack::source::{Row, Source};
use crate::pack::tiling::Tiling;
use crate::pack::units::Units;
use crate::parallel::{Shares, both, fork};
use crate::scheme::NonFinite;
use core::ops::Range;

/// Bytes of packed rows that are multiplied with all panels before more rows are packed: half of a small
/// second-level cache, which leaves room for a panel.
const BLOCK_BYTES: usize = 256 << 10;

/// A product that is about to run.
#[derive(Clone, Copy)]
pub(crate) struct GemmCall<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) weights: &'a PackedWeights,
    pub(crate) m: usize,
    pub(crate) epilogue: Epilogue<'a>,
    pub(crate) strides: Strides,
}

impl<'a> GemmCall<'a> {
    pub(crate) fn check(&self, output: &Output<'_>) -> Result<(), LinearError> {
        let weights = self.weights;
        if weights.kernel != self.kernel {
            let (packed_for, called) = (weights.kernel.name(), self.kernel.name());
            return Err(LinearError::OtherKernel { packed_for, called });
        }
        if let Some(bias) = self.epilogue.bias {
            length("bias", weights.n, bias.len())?;
        }
        if matches!(output, Output::I32(_)) && (weights.segments() > 1 || weights.words.minimums) {
            return Err(LinearError::NoSingleAccumulator);
        }
        Ok(())
    }

    /// Writes the product of the rows with the weights; the caller has checked the length of the source.
    pub(crate) fn run<S: Source>(
        self,
        source: S,
        output: Output<'a>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        match self.prepare(&source, output)? {
            Some(gemm) => self.run_all(source, &mut [gemm], scratch),
            None => Ok(()),
        }
    }

    /// Checks the product; `None` if it has no outputs.
    pub(crate) fn prepare<S: Source>(
        self,
        source: &S,
        output: Output<'a>,
    ) -> Result<Option<Gemm<'a>>, LinearError> {
        self.check(&output)?;
        let Self { weights, m, epilogue, strides, .. } = self;
        weights.check_serves(source.symmetric())?;
        let units = weights.units(source.block())?;
        if source.block().is_some() && matches!(output, Output::I32(_)) {
            return Err(LinearError::NoSingleAccumulator);
        }
        length("output", m.saturating_mul(weights.n), output.len())?;
        if m == 0 || weights.n == 0 {
            return Ok(None);
        }
        let (tiling, target) = (Tiling::new(m, weights.mr, 1), Target::new(output));
        Ok(Some(Gemm { weights, units, tiling, epilogue, target, strides }))
    }

    /// Runs products that take the same packed rows, those of this one ([`PackedWeights::shares_rows`]).
    pub(crate) fn run_all<S: Source>(
        &self,
        source: S,
        gemms: &mut [Gemm<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        let Self { weights, m, .. } = *self;
        let n = gemms.iter().fold(0usize, |n, gemm| n.saturating_add(gemm.weights.n));
        let count = scratch.workers_for(self.kernel, &[m, n, weights.k.max(1)]);
        let many = count == 1 || m.div_ceil(weights.mr) >= 2 * count;
        let tiling = Tiling::new(m, weights.mr, if many { count } else { 1 });
        gemms.iter_mut().for_each(|gemm| gemm.tiling = tiling);
        let Some(first) = gemms.first() else { return Ok(()) };
        if many {
            self.rows_apart(source, gemms, &mut scratch.workers[..count]);
        } else {
            let sizes = RowSizes::new(&source, weights, first.units);
            let slots = PackedASlots::new(&mut scratch.shared, m, sizes);
            let workers = &mut scratch.workers[..count];
            self.pack_apart(source, first, 0..tiling.tiles(), slots, workers);
            scratch.take_error()?;
            let packed_a = packed_a(&scratch.shared, &source, sizes, 0..m);
            panels_apart(packed_a, gemms, &mut scratch.workers[..count]);
        }
        Ok(scratch.take_error()?)
    }

    /// Many rows: each worker packs some rows and multiplies them with all panels.
    fn rows_apart<S: Source>(&self, source: S, gemms: &[Gemm<'_>], workers: &mut [Worker]) {
        let Some(first) = gemms.first() else { return };
        let shares = Shares::new(first.tiling.tiles(), workers.len());
        let row_bytes = first.units.lines * size_of::<Line>();
        let at_a_time = (BLOCK_BYTES / row_bytes.max(1) / self.weights.mr).max(1);
        fork(workers, &|worker| {
            while let Some(share) = shares.next() {
                for start in share.clone().step_by(at_a_time) {
                    let tiles = start..share.end.min(start + at_a_time);
                    if let Err(error) = self.rows(source, gemms, first, tiles, worker) {
                        worker.error = Some(error);
                        return;
                    }
                }
            }
        });
    }

    /// Multiplies some tiles with all panels. No other worker has these tiles at the same time.
    fn rows<S: Source>(
        &self,
        source: S,
        gemms: &[Gemm<'_>],
        first: &Gemm<'_>,
        tiles: Range<usize>,
        worker: &mut Worker,
    ) -> Result<(), NonFinite> {
        let rows = first.tiling.rows_of(tiles.clone());
        let sizes = RowSizes::new(&source, self.weights, first.units);
        let slots = PackedASlots::new(&mut worker.packed_a, rows.len(), sizes);
        self.pack(source, first, tiles.clone(), slots)?;
        let packed_a = packed_a(&worker.packed_a, &source, sizes, rows);
        for gemm in gemms {
            let unpacked = grown(&mut worker.unpacked, unpacked_lines(gemm.weights), Line::ZERO);
            let panels = 0..gemm.weights.panels();
            // SAFETY: shares have no tile in common, and each target is borrowed mutably for the
            // call. Different elements have different places (`Strides`).
            let block = unsafe { gemm.block(tiles.clone(), panels, packed_a, unpacked) };
            block.run();
        }
        Ok(())
    }

    /// Each worker packs some of the rows.
    fn pack_apart<S: Source>(
        &self,
        source: S,
        gemm: &Gemm<'_>,
        tiles: Range<usize>,
        slots: PackedASlots<'_>,
        workers: &mut [Worker],
    ) {
        if workers.len() < 2 || tiles.len() < 2 {
            if let (Err(error), [worker, ..]) = (self.pack(source, gemm, tiles, slots), workers) {
                worker.error = Some(error);
            }
            return;
        }
        let half = workers.len() / 2;
        let middle = tiles.start + (tiles.len() * half).div_ceil(workers.len());
        let (first, second) = (tiles.start..middle, middle..tiles.end);
        let (left, right) = workers.split_at_mut(half);
        let rows = gemm.tiling.rows_of(first.clone()).len();
        let sizes = RowSizes::new(&source, self.weights, gemm.units);
        let (before, after) = slots.split_at(rows, sizes);
        both(
            || self.pack_apart(source, gemm, first, before, left),
            || self.pack_apart(source, gemm, second, after, right),
        );
    }

    fn pack<S: Source>(
        &self,
        source: S,
        gemm: &Gemm<'_>,
        tiles: Range<usize>,
        slots: PackedASlots<'_>,
    ) -> Result<(), NonFinite> {
        let Self { kernel, weights, .. } = *self;
        let (units, tiling) = (gemm.units, gemm.tiling);
        let PackedASlots { lines, rows, row_sums, row_init } = slots;
        let pack = PackA { source, weights, units, tiling, tiles, lines, rows, row_sums, row_init };
        kernel.run_as(weights.arithmetic, pack)
    }
}

/// Few rows: each worker multiplies all rows with some of the panels of all products.
fn panels_apart(packed_a: PackedA<'_>, gemms: &[Gemm<'_>], workers: &mut [Worker]) {
    let all = gemms.iter().map(|gemm| gemm.weights.panels()).sum();
    let shares = Shares::new(all, workers.len());
    fork(workers, &|worker| {
        while let Some(share) = shares.next() {
            let mut before = 0;
            for gemm in gemms {
                let count = gemm.weights.panels();
                let start = share.start.max(before) - before;
                let panels = start..share.end.clamp(before, before + count) - before;
                before += count;
                if panels.is_empty() {
                    continue;
                }
                let unpacked =
                    grown(&mut worker.unpacked, unpacked_lines(gemm.weights), Line::ZERO);
                let tiles = 0..gemm.tiling.tiles();
                // SAFETY: shares have no panel in common, and each target is borrowed mutably for the
                // call; else as above.
                let block = unsafe { gemm.block(tiles, panels, packed_a, unpacked) };
                block.run();
            }
        }
    });
}

/// Lines of an unpacked panel.
fn unpacked_lines(weights: &PackedWeights) -> usize {
    weights.unpacked_panel_bytes() / size_of::<Line>()
}

/// Elements of the buffers for each row.
#[derive(Clone, Copy)]
struct RowSizes {
    lines: usize,
    rows: usize,
    sums: usize,
    init: usize,
}

impl RowSizes {
    fn new<S: Source>(source: &S, weights: &PackedWeights, units: &Units) -> Self {
        let each = |needed: bool| if needed { units.count() } else { 0 };
        Self {
            lines: units.lines,
            rows: if source.block().is_some() { units.count() } else { 1 },
            sums: each(weights.has_row_sums()),
            init: each(weights.row_init),
        }
    }
}

/// The buffers that some rows are packed into.
struct PackedASlots<'a> {
    lines: &'a mut [Line],
    rows: &'a mut [Row],
    row_sums: &'a mut [i32],
    row_init: &'a mut [i32],
}

impl<'a> PackedASlots<'a> {
    fn new(buffers: &'a mut PackedABuffers, rows: usize, of: RowSizes) -> Self {
        Self {
            lines: grown(&mut buffers.lines, rows * of.lines, Line::ZERO),
            rows: grown(&mut buffers.rows, rows * of.rows, Row::new(1.0, 0)),
            row_sums: grown(&mut buffers.row_sums, rows * of.sums, 0),
            row_init: grown(&mut buffers.row_init, rows * of.init, 0),
        }
    }

    /// Splits the buffers after `rows` rows.
    fn split_at(self, rows: usize, of: RowSizes) -> (Self, Self) {
        let (lines, other_lines) = self.lines.split_at_mut(rows * of.lines);
        let (row_sums, other_sums) = self.row_sums.split_at_mut(rows * of.sums);
        let (row_init, other_init) = self.row_init.split_at_mut(rows * of.init);
        let (rows, other_rows) = self.rows.split_at_mut(rows * of.rows);
        (
            Self { lines, rows, row_sums, row_init },
            Self {
                lines: other_lines,
                rows: other_rows,
                row_sums: other_sums,
                row_init: other_init,
            },
        )
    }
}

fn packed_a<'a, S: Source>(
    buffers: &'a PackedABuffers,
    source: &S,
    of: RowSizes,
    rows: Range<usize>,
) -> PackedA<'a> {
    PackedA {
        first: rows.start,
        lines: &buffers.lines[..rows.len() * of.lines],
        rows: &buffers.rows[..rows.len() * of.rows],
        blocks: source.block().is_some(),
        symmetric: source.symmetric(),
        row_sums: &buffers.row_sums[..rows.len() * of.sums],
        row_init: &buffers.row_init[..rows.len() * of.init],
    }
}
