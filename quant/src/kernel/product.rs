//! The integer product (`docs/numerics.md`, rule 6): tiles of rows against panels of weights.
//!
//! ```text
//! for panel                           COLUMNS outputs, all of K; stays in the first-level cache
//!   for tile                          up to ROWS rows, read from the second-level cache
//!     for segment
//!       sums = 0                      ROWS · COLUMNS sums in registers
//!       for line, step                one broadcast per row, two loads of codes
//!         sums += activations · codes
//!       outputs from sums, term, zero points, scales
//! ```
//! K is not cut further: a panel is read once per tile, COLUMNS · K bytes for ROWS · COLUMNS · K
//! products, which every cache delivers in time; in return, sums never leave the registers.

use super::dispatch::Operation;
use super::isa::{Isa, Line};
use super::output::{Epilogue, Shared, Strides, Target};
use super::rows::{Row, Tiling};
use super::weights::{Columns, PackedWeights};
use bytemuck::Pod;
use core::ops::Range;

/// Columns of the widest panel.
pub(super) const WIDEST: usize = 32;

/// A row of a tile.
type Lanes<T> = [T; WIDEST];

/// Some tiles times some panels.
pub(super) struct Product<'a> {
    weights: &'a PackedWeights,
    tiling: Tiling,
    tiles: Range<usize>,
    panels: Range<usize>,
    prepared: Prepared<'a>,
    epilogue: Epilogue<'a>,
    target: Target<'a>,
    strides: Strides,
    /// Room for a panel of unpacked codes.
    unpacked: &'a mut [Line],
}

/// Rows as [`Prepare`](super::rows::Prepare) left them.
#[derive(Clone, Copy)]
pub(super) struct Prepared<'a> {
    /// The row that comes first.
    pub(super) first: usize,
    pub(super) lines: &'a [Line],
    pub(super) rows: &'a [Row],
    pub(super) sums: &'a [i32],
}

/// The whole product that parts are taken of.
#[derive(Clone, Copy)]
pub(super) struct Whole<'a> {
    pub(super) weights: &'a PackedWeights,
    pub(super) tiling: Tiling,
    pub(super) epilogue: Epilogue<'a>,
    pub(super) target: Target<'a>,
    pub(super) strides: Strides,
}

impl<'a> Whole<'a> {
    /// The part for some tiles and panels.
    ///
    /// # Safety
    /// - No other part that runs at the same time has both a tile and a panel in common with this
    ///   one, and nothing else refers to the output meanwhile.
    /// - Different elements of the product have different places under `strides`.
    pub(super) unsafe fn part(
        &self,
        tiles: Range<usize>,
        panels: Range<usize>,
        prepared: Prepared<'a>,
        unpacked: &'a mut [Line],
    ) -> Product<'a> {
        let Self { weights, tiling, epilogue, target, strides } = *self;
        Product { weights, tiling, tiles, panels, prepared, epilogue, target, strides, unpacked }
    }
}

impl Operation for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.weights.bits {
            8 => self.run_bits::<I, 8>(isa),
            4 => self.run_bits::<I, 4>(isa),
            _ => self.run_bits::<I, 2>(isa),
        }
    }
}

/// One tile times one panel.
struct Tile<'a, T> {
    product: &'a Product<'a>,
    panel: usize,
    /// Packed, or unpacked already.
    steps: &'a [T],
    packed: bool,
    rows: Range<usize>,
    lines: &'a [Line],
}

impl Product<'_> {
    #[inline(always)]
    fn run_bits<I: Isa, const BITS: usize>(mut self, isa: I) {
        // Unpacking costs about as much as the product of one row, so it is done once per panel
        // where there are several tiles, and piece by piece in registers and cache where not.
        let ahead = BITS < 8 && self.tiles.len() > 1;
        let room = core::mem::take(&mut self.unpacked);
        for panel in self.panels.clone() {
            let mut steps: &[I::Step] = self.weights.panel(panel);
            if ahead {
                let room: &mut [I::Step] = bytemuck::cast_slice_mut(room);
                let room = &mut room[..steps.len() * (8 / BITS)];
                unpack::<I, BITS>(steps, room);
            }
            if ahead {
                let room: &[I::Step] = bytemuck::cast_slice(room);
                steps = &room[..steps.len() * (8 / BITS)];
            }
            for tile in self.tiles.clone() {
                let rows = self.tiling.rows(tile);
                let per_row = self.weights.lines();
                let lines = &self.prepared.lines[(rows.start - self.prepared.first) * per_row..]
                    [..rows.len() * per_row];
                let packed = BITS < 8 && !ahead;
                let tile = Tile { product: &self, panel, steps, packed, rows, lines };
                tile.run_rows::<I, BITS>(isa);
            }
        }
    }
}

impl<T: Pod> Tile<'_, T> {
    /// A tile of every height has code of its own, with all sums in registers.
    #[inline(always)]
    fn run_rows<I: Isa<Step = T>, const BITS: usize>(&self, isa: I) {
        macro_rules! heights {
            ($($height:literal)+) => {
                match self.rows.len() {
                    // The comparison is known when compiled: taller ones than the instruction
                    // set's tallest are left out.
                    $($height if $height <= I::ROWS => self.run::<I, BITS, $height>(isa),)+
                    _ => unreachable!("tiles are at most {} rows", I::ROWS),
                }
            };
        }
        heights!(1 2 3 4 5 6 7 8 9 10 11 12);
    }

    #[inline(always)]
    fn run<I: Isa<Step = T>, const BITS: usize, const R: usize>(&self, isa: I) {
        let weights = self.product.weights;
        let (lines, _) = self.lines.as_chunks::<R>();
        let (mut step, mut line) = (0, 0);
        let mut values = [[0.0; WIDEST]; R];
        for segment in 0..weights.segments() {
            let steps = weights.steps[segment];
            let count = steps.div_ceil(Line::STEPS);
            let sums = self.sums::<I, BITS, R>(isa, &lines[line..line + count], step, steps);
            let sums = self.without_zeros::<I, R>(sums, segment);
            if let Target::Sums(out) = self.product.target {
                return self.write(&out, &sums, I::COLUMNS);
            }
            let columns = weights.columns_of(self.panel, segment);
            if weights.segments() == 1 {
                values = self.scaled::<I, R>(&sums, columns);
            } else {
                let scaled = self.scaled::<I, R>(&sums, columns);
                for (values, scaled) in values.iter_mut().zip(&scaled) {
                    for j in 0..I::COLUMNS {
                        values[j] += scaled[j];
                    }
                }
            }
            (step, line) = (step + steps, line + count);
        }
        self.finish::<I, R>(values);
    }

    /// `Σ a · code` over a segment.
    #[inline(always)]
    fn sums<I: Isa<Step = T>, const BITS: usize, const R: usize>(
        &self,
        isa: I,
        lines: &[[Line; R]],
        first: usize,
        steps: usize,
    ) -> [Lanes<i32>; R] {
        let mut sums = [[isa.zero(); 2]; R];
        if self.packed {
            let per_byte = 8 / BITS;
            let steps = &self.steps[first / per_byte..][..steps / per_byte];
            let mut piece = [I::Step::zeroed(); Line::STEPS];
            for (a, b) in lines.iter().zip(steps.chunks(Line::STEPS / per_byte)) {
                let piece = &mut piece[..b.len() * per_byte];
                unpack::<I, BITS>(b, piece);
                isa.accumulate::<R, 8>(&mut sums, a, piece);
            }
        } else {
            let steps = &self.steps[first..][..steps];
            for (a, b) in lines.iter().zip(steps.chunks(Line::STEPS)) {
                match (BITS, I::GROUP) {
                    (8, 1) => isa.accumulate::<R, 1>(&mut sums, a, b),
                    (8, _) => isa.accumulate::<R, 2>(&mut sums, a, b),
                    _ => isa.accumulate::<R, 8>(&mut sums, a, b),
                }
            }
        }
        let mut out = [[0; WIDEST]; R];
        for (out, sums) in out.iter_mut().zip(sums) {
            isa.store(sums[0], &mut out[..I::LANES]);
            isa.store(sums[1], &mut out[I::LANES..I::COLUMNS]);
        }
        if I::GROUP > 1 && BITS == 8 {
            self.add_outliers(&mut out, lines, I::COLUMNS);
        }
        out
    }

    #[inline(always)]
    fn add_outliers<const R: usize>(
        &self,
        sums: &mut [Lanes<i32>; R],
        lines: &[[Line; R]],
        columns: usize,
    ) {
        let outliers = &self.product.weights.outliers;
        if outliers.is_empty() {
            return;
        }
        let first = self.panel * columns;
        for j in 0..columns.min(self.product.weights.n - first) {
            for outlier in outliers.of(first + j) {
                let at = outlier.k as usize;
                let lines = &lines[at / size_of::<Line>()];
                for r in 0..R {
                    let bytes: &[u8; 64] = bytemuck::cast_ref(&lines[r]);
                    sums[r][j] += i32::from(bytes[at % size_of::<Line>()]) * outlier.rest;
                }
            }
        }
    }

    fn row(&self, r: usize) -> Row {
        self.product.prepared.rows[self.rows.start - self.product.prepared.first + r]
    }

    /// `Σ (a - za) · (code - zw)`.
    #[inline(always)]
    fn without_zeros<I: Isa, const R: usize>(
        &self,
        mut sums: [Lanes<i32>; R],
        segment: usize,
    ) -> [Lanes<i32>; R] {
        let weights = self.product.weights;
        let Columns { terms, zeros, .. } = weights.columns_of(self.panel, segment);
        let terms = &terms[..I::COLUMNS];
        for (r, sums) in sums.iter_mut().enumerate() {
            let zero = self.row(r).zero;
            for j in 0..I::COLUMNS {
                sums[j] = sums[j].wrapping_sub(zero.wrapping_mul(terms[j]));
            }
        }
        if !zeros.is_empty() {
            let zeros = &zeros[..I::COLUMNS];
            let first = self.rows.start - self.product.prepared.first;
            for (r, sums) in sums.iter_mut().enumerate() {
                let sum = self.product.prepared.sums[(first + r) * weights.segments() + segment];
                for j in 0..I::COLUMNS {
                    sums[j] = sums[j].wrapping_sub(sum.wrapping_mul(zeros[j]));
                }
            }
        }
        sums
    }

    /// `f32(sum) * (sa * sw)`.
    #[inline(always)]
    fn scaled<I: Isa, const R: usize>(
        &self,
        sums: &[Lanes<i32>; R],
        columns: Columns<'_>,
    ) -> [Lanes<f32>; R] {
        let scales = &columns.scales[..I::COLUMNS];
        let mut values = [[0.0; WIDEST]; R];
        for r in 0..R {
            let scale = self.row(r).scale;
            for j in 0..I::COLUMNS {
                values[r][j] = sums[r][j] as f32 * (scale * scales[j]);
            }
        }
        values
    }

    #[inline(always)]
    fn finish<I: Isa, const R: usize>(&self, mut values: [Lanes<f32>; R]) {
        let Epilogue { bias, relu } = self.product.epilogue;
        let first = self.panel * I::COLUMNS;
        if let Some(bias) = bias {
            let mut lanes = [0.0; WIDEST];
            let bias = &bias[first..bias.len().min(first + I::COLUMNS)];
            lanes[..bias.len()].copy_from_slice(bias);
            for values in &mut values {
                for j in 0..I::COLUMNS {
                    values[j] += lanes[j];
                }
            }
        }
        if relu {
            for values in &mut values {
                for j in 0..I::COLUMNS {
                    values[j] = if values[j] > 0.0 { values[j] } else { 0.0 };
                }
            }
        }
        match self.product.target {
            Target::F32(out) => self.write(&out, &values, I::COLUMNS),
            Target::I8(out, affine) => {
                let mut codes = [[0; WIDEST]; R];
                for (codes, values) in codes.iter_mut().zip(&values) {
                    for j in 0..I::COLUMNS {
                        codes[j] = affine.code(values[j]);
                    }
                }
                self.write(&out, &codes, I::COLUMNS);
            }
            Target::Sums(_) => {}
        }
    }

    #[inline(always)]
    fn write<E: Copy, const R: usize>(
        &self,
        out: &Shared<'_, E>,
        tile: &[Lanes<E>; R],
        columns: usize,
    ) {
        let Strides { row, column } = self.product.strides;
        let first = self.panel * columns;
        let count = columns.min(self.product.weights.n - first);
        if column == 1 {
            for (r, from) in tile.iter().enumerate() {
                let start = (self.rows.start + r) * row + first;
                // SAFETY: these are places of this tile and this panel, which no other part has
                // (`Whole::part`), and the slice is gone before the next one is made.
                let out = unsafe { out.slice(start, count) };
                out.copy_from_slice(&from[..count]);
            }
        } else {
            for j in 0..count {
                for (r, from) in tile.iter().enumerate() {
                    let start = (self.rows.start + r) * row + (first + j) * column;
                    // SAFETY: as above.
                    let out = unsafe { out.slice(start, 1) };
                    out[0] = from[j];
                }
            }
        }
    }
}

/// Unpacks steps: each holds `8 / BITS` of them, the first in the low bits, as `code + half`.
#[inline(always)]
pub(super) fn unpack<I: Isa, const BITS: usize>(packed: &[I::Step], out: &mut [I::Step]) {
    let half = 1u8 << (BITS - 1);
    let mask = ((1u16 << BITS) - 1) as u8;
    for (packed, out) in packed.iter().zip(out.chunks_exact_mut(8 / BITS)) {
        let packed = &bytemuck::bytes_of(packed)[..size_of::<I::Step>()];
        for (j, out) in out.iter_mut().enumerate() {
            let out = &mut bytemuck::bytes_of_mut(out)[..size_of::<I::Step>()];
            for i in 0..size_of::<I::Step>() {
                out[i] = (packed[i] >> (j * BITS) & mask).wrapping_sub(half);
            }
        }
    }
}
