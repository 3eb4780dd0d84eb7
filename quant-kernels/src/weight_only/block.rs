//! Many rows times quantized weights: codes are converted to floats once for a block of rows.
//!
//! ```text
//! for panel, block of rows
//!   for segment, piece of K
//!     convert the codes of the piece
//!     for tile of rows
//!       for k in piece: p = fma(x, w, p)        p is in registers
//!       at the end of the segment: y = y + p · s, or y + (p · s + t · m)
//! ```

use super::convert::{Piece, PieceAt, UnpackedSteps, dequantize};
use super::{BLOCK_ROWS, FloatProduct, LINE, MR, PIECE, UNROLL, rows};
use crate::isa::lanes::{WIDEST, add, load, mul, store};
use crate::isa::{Isa, Operation};
use crate::pack::tiling::Tiling;
use core::ops::Range;

/// Floats for `p` and `y` of a block of `m` rows.
pub(super) fn room(m: usize) -> usize {
    2 * BLOCK_ROWS.min(m) * WIDEST + LINE
}

/// `p` and `y` of a block of rows, `[row][column]`.
struct Sums<'a> {
    p: &'a mut [f32],
    y: &'a mut [f32],
}

/// A piece of K of a block of rows, and the converted codes.
struct PieceProduct<'a, I: Isa> {
    /// As [packed](super::rows).
    x: &'a [f32],
    /// Padded to whole [`UNROLL`] values, where rows are 0.
    piece: &'a [[I::Floats; 2]],
    /// Whether the piece starts its segment.
    starts: bool,
    /// If the piece ends its segment.
    end: Option<SegmentEnd<'a, I>>,
}

/// What follows the last product of a segment.
struct SegmentEnd<'a, I: Isa> {
    scales: [I::Floats; 2],
    minimums: [I::Floats; 2],
    /// The sum of each row; empty if there are no minimums.
    sums: &'a [f32],
    /// Whether the result is added to `y`.
    adds: bool,
}

impl Operation for FloatProduct<'_> {
    type Output = ();

    /// Any number of rows.
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let room = core::mem::take(&mut self.room);
        // Aligned to cache lines, so that no vector crosses one.
        let start = room.as_ptr().align_offset(4 * LINE).min(LINE);
        let (p, y) = room[start..].split_at_mut(BLOCK_ROWS.min(self.m) * WIDEST);
        let mut sums = Sums { p, y };
        let mut piece = [[isa.splat(0.0); 2]; PIECE];
        let mut unpacked = UnpackedSteps::new();
        let blocks = rows::blocks(self.m);
        for panel in self.panels.clone() {
            for block in 0..blocks.tiles() {
                let rows = blocks.rows(block);
                let buffers = (&mut piece, &mut unpacked);
                self.block::<I>(isa, panel, rows.clone(), &mut sums, buffers);
                self.finish::<I>(panel, rows, sums.y);
            }
        }
    }
}

impl FloatProduct<'_> {
    /// Computes `y` of a block of rows and a panel.
    #[inline(always)]
    fn block<I: Isa>(
        &self,
        isa: I,
        panel: usize,
        rows: Range<usize>,
        sums: &mut Sums<'_>,
        (piece, unpacked): (&mut Piece<I>, &mut UnpackedSteps<I>),
    ) {
        let (weights, tiling) = (self.weights, rows::tiles(&rows));
        let (mut x, mut first) = (&self.x[rows.start * rows::padded_len(weights)..], 0);
        sums.y[..rows.len() * I::NR].fill(0.0);
        for segment in 0..weights.segments() {
            let range = weights.segment_range(segment);
            for k in range.clone().step_by(PIECE) {
                let len = PIECE.min(range.end - k);
                let at = PieceAt { panel, segment, step: first + (k - range.start) / I::KR };
                dequantize(isa, weights, at, len, piece, unpacked);
                let padded = len.next_multiple_of(UNROLL);
                let (of_piece, rest) = x.split_at(rows.len() * padded);
                let product = PieceProduct::<I> {
                    x: of_piece,
                    piece: &piece[..padded],
                    starts: k == range.start,
                    end: if k + len == range.end {
                        Some(self.segment_end(isa, panel, segment, &rows))
                    } else {
                        None
                    },
                };
                product.run(isa, tiling, sums);
                x = rest;
            }
            first += weights.steps[segment];
        }
    }

    #[inline(always)]
    fn segment_end<I: Isa>(
        &self,
        isa: I,
        panel: usize,
        segment: usize,
        rows: &Range<usize>,
    ) -> SegmentEnd<'_, I> {
        let columns = self.weights.columns_of::<I>(panel, segment);
        let mut end = SegmentEnd {
            scales: columns.scales(isa),
            minimums: [isa.splat(0.0); 2],
            sums: &[],
            adds: self.adds_to_zero(),
        };
        if let Some(minimums) = columns.minimums(isa) {
            let at = rows.start * self.weights.segments() + segment * rows.len();
            end.minimums = minimums;
            end.sums = &self.sums[at..][..rows.len()];
        }
        end
    }
}

impl<I: Isa> PieceProduct<'_, I> {
    #[inline(always)]
    fn run(&self, isa: I, tiling: Tiling, sums: &mut Sums<'_>) {
        for tiles in tiling.of_a_height(0..tiling.tiles()) {
            let rows = tiling.rows_of(tiles.clone());
            match rows.len() / tiles.len() {
                1 => self.tiles::<1>(isa, rows, sums),
                2 => self.tiles::<2>(isa, rows, sums),
                3 => self.tiles::<3>(isa, rows, sums),
                4 => self.tiles::<4>(isa, rows, sums),
                5 => self.tiles::<5>(isa, rows, sums),
                _ => self.tiles::<MR>(isa, rows, sums),
            }
        }
    }

    /// The tiles of `R` rows each that these rows are made of.
    #[inline(always)]
    fn tiles<const R: usize>(&self, isa: I, rows: Range<usize>, sums: &mut Sums<'_>) {
        let len = self.piece.len();
        let x = self.x[rows.start * len..rows.end * len].as_chunks::<R>().0;
        let columns = rows.start * I::NR..rows.end * I::NR;
        let (p, y) = (&mut sums.p[columns.clone()], &mut sums.y[columns]);
        let sums = p.chunks_exact_mut(R * I::NR).zip(y.chunks_exact_mut(R * I::NR));
        for (tile, (x, (p, y))) in x.chunks_exact(len).zip(sums).enumerate() {
            self.tile(isa, rows.start + tile * R, x, p, y);
        }
    }

    /// `R` rows from `first` on.
    #[inline(always)]
    fn tile<const R: usize>(
        &self,
        isa: I,
        first: usize,
        x: &[[f32; R]],
        p: &mut [f32],
        y: &mut [f32],
    ) {
        let mut sums = [[isa.splat(0.0); 2]; R];
        if !self.starts {
            for r in 0..R {
                sums[r] = load(isa, &p[r * I::NR..][..I::NR]);
            }
        }
        for (weights, x) in self.piece.as_chunks::<UNROLL>().0.iter().zip(x.as_chunks::<UNROLL>().0)
        {
            for i in 0..UNROLL {
                for r in 0..R {
                    let x = isa.splat(x[i][r]);
                    for v in 0..2 {
                        sums[r][v] = isa.fused(x, weights[i][v], sums[r][v]);
                    }
                }
            }
        }
        let Some(end) = &self.end else {
            for r in 0..R {
                store(isa, sums[r], &mut p[r * I::NR..][..I::NR]);
            }
            return;
        };
        for r in 0..R {
            let y = &mut y[r * I::NR..][..I::NR];
            let mut scaled = mul(isa, sums[r], end.scales);
            if !end.sums.is_empty() {
                let sum = [isa.splat(end.sums[first + r]); 2];
                scaled = add(isa, scaled, mul(isa, sum, end.minimums));
            }
            if end.adds {
                scaled = add(isa, load(isa, y), scaled);
            }
            store(isa, scaled, y);
        }
    }
}
