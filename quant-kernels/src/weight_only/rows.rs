//! The rows of activations in the order in which [`block`](super::block) reads them.
//!
//! ```text
//! rows      block 0 │ block 1 │ …          at most BLOCK_ROWS rows each
//! block     segment 0 │ segment 1 │ …      one per block along K of the weights
//! segment   piece 0 │ piece 1 │ …          at most PIECE values along K each
//! piece     tile 0 │ tile 1 │ …            at most MR rows each
//! tile      k 0: a value of each row │ k 1 │ …    padded by 0 to whole UNROLL values along K
//! ```
//! So each panel reads one stream. In row-major order it would read short pieces of many rows, which for common
//! lengths of rows fall into the same sets of the caches.

use super::{BLOCK_ROWS, MR, PIECE, UNROLL};
use crate::pack::b::PackedWeights;
use crate::pack::tiling::Tiling;
use crate::parallel::both;
use core::ops::Range;

/// The blocks of `m` rows.
pub(super) fn blocks(m: usize) -> Tiling {
    Tiling::new(m, BLOCK_ROWS, 1)
}

/// The tiles of a block.
pub(super) fn tiles(rows: &Range<usize>) -> Tiling {
    Tiling::new(rows.len(), MR, 1)
}

/// Floats of a packed row.
pub(super) fn padded_len(weights: &PackedWeights) -> usize {
    (0..weights.segments()).map(|s| weights.segment_range(s).len().next_multiple_of(UNROLL)).sum()
}

/// Rows that are to be packed. A unit of work is a segment of a block.
#[derive(Clone, Copy)]
pub(super) struct PackRows<'a> {
    pub(super) weights: &'a PackedWeights,
    pub(super) x: &'a [f32],
    pub(super) m: usize,
}

/// Where rows are packed to.
pub(super) struct PackedRows<'a> {
    /// `m ·` [`padded_len`] floats; empty if only sums are needed.
    pub(super) x: &'a mut [f32],
    /// `[block][segment][row]`: the sum of the values of the row; empty if it is not needed.
    pub(super) sums: &'a mut [f32],
}

impl<'a> PackedRows<'a> {
    /// Splits both after so many elements, or as many as there are.
    fn split_at(self, x: usize, sums: usize) -> (Self, Self) {
        let (x, other_x) = self.x.split_at_mut(x.min(self.x.len()));
        let (sums, other_sums) = self.sums.split_at_mut(sums.min(self.sums.len()));
        (Self { x, sums }, Self { x: other_x, sums: other_sums })
    }
}

impl PackRows<'_> {
    /// Packs all rows, on up to `workers` threads.
    pub(super) fn run(self, out: PackedRows<'_>, workers: usize) {
        let units = blocks(self.m).tiles() * self.weights.segments();
        self.units(0..units, out, workers);
    }

    fn units(self, units: Range<usize>, mut out: PackedRows<'_>, workers: usize) {
        if workers > 1 && units.len() > 1 {
            let middle = units.start + units.len().div_ceil(2);
            let ([x, sums], [end_x, end_sums]) = (self.start(units.start), self.start(middle));
            let (left, right) = out.split_at(end_x - x, end_sums - sums);
            both(
                || self.units(units.start..middle, left, workers.div_ceil(2)),
                || self.units(middle..units.end, right, workers / 2),
            );
            return;
        }
        for unit in units {
            let (rows, range) = self.unit(unit);
            let padded = range.len().next_multiple_of(UNROLL);
            let (to, rest) = out.split_at(rows.len() * padded, rows.len());
            for (sum, row) in to.sums.iter_mut().zip(rows.clone()) {
                *sum = self.row(row, range.clone()).iter().fold(0.0, |sum, x| sum + x);
            }
            if !to.x.is_empty() {
                self.segment(rows, range, to.x);
            }
            out = rest;
        }
    }

    fn row(&self, row: usize, range: Range<usize>) -> &[f32] {
        &self.x[row * self.weights.k..][range]
    }

    /// The rows and the range of K of a unit.
    fn unit(self, unit: usize) -> (Range<usize>, Range<usize>) {
        let segments = self.weights.segments();
        (blocks(self.m).rows(unit / segments), self.weights.segment_range(unit % segments))
    }

    /// The positions of a unit among packed rows and among sums.
    fn start(self, unit: usize) -> [usize; 2] {
        let segments = self.weights.segments();
        let (rows, segment) = (self.unit(unit).0, unit % segments);
        // All segments before the last one have the same length.
        let before = segment * self.weights.segment.next_multiple_of(UNROLL);
        let x = rows.start * padded_len(self.weights) + before * rows.len();
        [x, rows.start * segments + segment * rows.len()]
    }

    fn segment(self, rows: Range<usize>, range: Range<usize>, mut out: &mut [f32]) {
        for start in range.clone().step_by(PIECE) {
            let ks = start..range.end.min(start + PIECE);
            for tile in (0..tiles(&rows).tiles()).map(|tile| tiles(&rows).rows(tile)) {
                let padded = ks.len().next_multiple_of(UNROLL);
                let (to, rest) = out.split_at_mut(tile.len() * padded);
                to[tile.len() * ks.len()..].fill(0.0);
                for (r, row) in tile.clone().enumerate() {
                    let from = self.row(rows.start + row, ks.clone());
                    for (to, x) in to[r..].iter_mut().step_by(tile.len()).zip(from) {
                        *to = *x;
                    }
                }
                out = rest;
            }
        }
    }
}
