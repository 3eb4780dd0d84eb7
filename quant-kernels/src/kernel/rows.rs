//! Activations quantized into the order in which the products read them.
//!
//! Rows are cut into tiles ([`Tiling`]). In a tile, lines of its rows alternate:
//!
//! ```text
//! tile      line 0 of row 0 │ line 0 of row 1 │ … │ line 1 of row 0 │ …
//! ```
//! so that a tile is read from front to back, a line of each row is at a constant distance from
//! the next, and no two of them fall into the same set of the cache, whatever K is. A segment of
//! K starts with a new line; what a line has left over is 0. Codes are stored plus 128, unsigned,
//! unless a kernel wants them signed for codes of at most 4 bits ([`Isa::UNSIGNED_CODES`]).
//!
//! Where codes are in an [order](super::order), it is quarters of lines that alternate, which are
//! its blocks: two rows are brought into an order at a time.

use super::dispatch::{Arithmetic, Operation};
use super::elementwise::{Affine, Ends};
use super::isa::{Isa, Line};
use super::order::BLOCK;
use super::weights::PackedWeights;
use crate::scheme::{Grid, NonFinite, Range as Values};
use core::array::from_fn;
use core::ops::Range;

/// What the products need to know of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) scale: f32,
    /// The zero point, shifted like the codes: `0 ..= 255` where they are unsigned, as a source gives
    /// them.
    pub(super) zero: i32,
}

impl Row {
    pub(super) fn new(scale: f32, zero_point: i32) -> Self {
        Self { scale, zero: zero_point + 128 }
    }
}

/// Where rows of activations come from.
pub(super) trait Source: Copy + Sync {
    /// The scale and the zero point of a row.
    fn row(&self, isa: impl Isa, row: usize) -> Result<Row, NonFinite>;

    /// Codes of a row from `k` on, plus 128. Called with `N` fixed for whole lines.
    #[inline(always)]
    fn fill<const N: usize>(
        &self,
        _: impl Isa,
        of: Row,
        row: usize,
        k: usize,
        codes: &mut [u8; N],
    ) {
        self.fill_part(of, row, k, codes);
    }

    /// The same for fewer than a whole line.
    fn fill_part(&self, of: Row, row: usize, k: usize, codes: &mut [u8]);
}

/// How rows are cut into tiles of nearly the same height, none taller than the kernel's tallest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    rows: usize,
    tiles: usize,
}

impl Tiling {
    /// `workers` share the tiles, and none of them has more than another, if there are rows enough.
    pub(super) fn new(rows: usize, tallest: usize, workers: usize) -> Self {
        let tiles = rows.div_ceil(tallest).next_multiple_of(workers);
        Self { rows, tiles: tiles.min(rows) }
    }

    pub(super) fn tiles(self) -> usize {
        self.tiles
    }

    /// The rows of a tile.
    pub(super) fn rows(self, tile: usize) -> Range<usize> {
        self.start(tile)..self.start(tile + 1)
    }

    /// The rows of some tiles.
    pub(super) fn rows_of(self, tiles: Range<usize>) -> Range<usize> {
        self.start(tiles.start)..self.start(tiles.end)
    }

    /// Some tiles, apart by their height: those that are one row taller come first.
    pub(super) fn of_a_height(self, tiles: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let middle = (self.rows % self.tiles).clamp(tiles.start, tiles.end);
        [tiles.start..middle, middle..tiles.end].into_iter().filter(|tiles| !tiles.is_empty())
    }

    fn start(self, tile: usize) -> usize {
        let (height, taller) = (self.rows / self.tiles, self.rows % self.tiles);
        tile * height + tile.min(taller)
    }
}

/// Quantizes the rows of some tiles.
pub(super) struct Prepare<'a, S> {
    pub(super) source: S,
    pub(super) weights: &'a PackedWeights,
    pub(super) tiling: Tiling,
    pub(super) tiles: Range<usize>,
    /// Those of `tiles` only; so the three below.
    pub(super) lines: &'a mut [Line],
    pub(super) rows: &'a mut [Row],
    /// `[tile][segment][row]`; empty if the weights do not need them.
    pub(super) sums: &'a mut [i32],
    /// `[tile][segment][row]`: what sums start with on account of the row; empty unless
    /// [`PackedWeights::row_starts`].
    pub(super) starts: &'a mut [i32],
}

impl<S: Source> Operation for Prepare<'_, S> {
    type Output = Result<(), NonFinite>;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Output {
        let lines_per_row = self.weights.lines;
        let first = self.tiling.rows(self.tiles.start).start;
        for tile in self.tiles.clone() {
            let rows = self.tiling.rows(tile);
            let place = Place { first, lines: (rows.start - first) * lines_per_row, rows };
            let rows = &place.rows;
            // All of them before the first is filled: what a row waits for at its end, the next one
            // need not wait for.
            for row in rows.clone() {
                self.rows[row - first] = self.source.row(isa, row)?;
            }
            for row in rows.clone() {
                self.prepare_row(isa, &place, row);
            }
        }
        Ok(())
    }
}

/// Where a tile is in what is prepared.
struct Place {
    /// The first row of all that are prepared.
    first: usize,
    rows: Range<usize>,
    /// The first line.
    lines: usize,
}

impl<S: Source> Prepare<'_, S> {
    #[inline(always)]
    fn prepare_row<I: Isa>(&mut self, isa: I, place: &Place, row: usize) {
        const { assert!(!I::UNSIGNED_CODES || I::VALUES == 4 && !I::CROSSES) };
        let weights = self.weights;
        // AVX2 prepares rows for codes in an order, too, which are not unsigned.
        let signed = I::UNSIGNED_CODES && weights.row_starts;
        let Place { first, ref rows, lines } = *place;
        let of = self.rows[row - first];
        let mut groups = self.lines[lines..].chunks_exact_mut(rows.len());
        for segment in 0..weights.segments() {
            let range = weights.segment_range(segment);
            let (mut sum, mut start) = (0, 0i32);
            for k in range.clone().step_by(Line::STEPS * I::VALUES) {
                let (Some(group), left) = (groups.next(), range.end - k) else { break };
                let mut line = if I::VALUES == 4 {
                    bytes(isa, &self.source, of, (row, k), left)
                } else {
                    words(isa, &self.source, of, (row, k), left)
                };
                if signed || !self.sums.is_empty() {
                    sum += sum_of(&line);
                }
                if signed {
                    make_signed(&mut line, left);
                }
                if I::CROSSES {
                    start = start.wrapping_sub(cross_of(&line));
                }
                // What is ordered has four values in a step: known when compiled.
                if I::VALUES == 4 && weights.arithmetic == Arithmetic::Ordered {
                    place_quarters(line, row - rows.start, group);
                } else {
                    group[row - rows.start] = line;
                }
            }
            if signed {
                sum -= 128 * range.len() as i32;
                start = -(sum * i32::from(weights.half()));
            }
            let to = (rows.start - first) * weights.segments() + segment * rows.len();
            let to = to + (row - rows.start);
            if !self.sums.is_empty() {
                self.sums[to] = sum;
            }
            if I::CROSSES || signed {
                self.starts[to] = start;
            }
        }
        if signed {
            self.rows[row - first].zero -= 128;
        }
    }
}

/// Puts row `r` of a tile among the lines of all its rows, a quarter at a time.
#[inline(always)]
fn place_quarters(line: Line, r: usize, group: &mut [Line]) {
    let rows = group.len();
    let quarters: &mut [[u8; BLOCK]] = bytemuck::cast_slice_mut(group);
    for (q, quarter) in line.bytes().as_chunks().0.iter().enumerate() {
        quarters[q * rows + r] = *quarter;
    }
}

/// A line of 64 bytes.
#[inline(always)]
fn bytes<S: Source>(
    isa: impl Isa,
    source: &S,
    of: Row,
    (row, k): (usize, usize),
    left: usize,
) -> Line {
    let mut line = Line::ZERO;
    let codes = line.bytes_mut();
    if left >= 64 {
        source.fill(isa, of, row, k, codes);
    } else {
        source.fill_part(of, row, k, &mut codes[..left]);
    }
    line
}

/// A line of 32 codes as i16.
#[inline(always)]
fn words<S: Source>(
    isa: impl Isa,
    source: &S,
    of: Row,
    (row, k): (usize, usize),
    left: usize,
) -> Line {
    let mut codes = [0; 32];
    if left >= 32 {
        source.fill(isa, of, row, k, &mut codes);
    } else {
        source.fill_part(of, row, k, &mut codes[..left]);
    }
    let mut line = Line::ZERO;
    let words: &mut [u16; 32] = bytemuck::cast_mut(&mut line);
    for i in 0..32 {
        words[i] = u16::from(codes[i]);
    }
    line
}

/// The sum of the codes in a line, of either kind: the high bytes of i16 are 0.
#[inline(always)]
fn sum_of(line: &Line) -> i32 {
    let mut sum = 0;
    for byte in line.bytes() {
        sum += i32::from(*byte);
    }
    sum
}

/// Takes 128 from each code of a line of bytes, but not from what is left over.
#[inline(always)]
fn make_signed(line: &mut Line, left: usize) {
    for code in line.bytes_mut() {
        *code ^= 0x80;
    }
    if left < 64 {
        line.bytes_mut()[left..].fill(0);
    }
}

/// What a line of i16 gives for itself where activations are added to codes: see [`Isa::CROSSES`].
#[inline(always)]
fn cross_of(line: &Line) -> i32 {
    let words: &[i16; 32] = bytemuck::cast_ref(line);
    // Each pair times its neighbour, which gives everything twice, as one instruction does it.
    let neighbours: [i16; 32] = from_fn(|i| words[i ^ 2]);
    let mut sum = 0;
    for i in 0..16 {
        let product = |i: usize| i32::from(words[i]) * i32::from(neighbours[i]);
        sum += product(2 * i) + product(2 * i + 1);
    }
    sum / 2
}

/// Codes that are there already.
#[derive(Clone, Copy)]
pub(super) struct CodeRows<'a> {
    pub(super) codes: &'a [i8],
    pub(super) k: usize,
    /// One for all, or one per row; so the zero points, of which there may be none.
    pub(super) scales: &'a [f32],
    pub(super) zero_points: &'a [i8],
}

/// The element of a row, where one may stand for all.
fn of_row<T: Copy>(values: &[T], row: usize) -> Option<T> {
    values.get(if values.len() == 1 { 0 } else { row }).copied()
}

impl Source for CodeRows<'_> {
    #[inline(always)]
    fn row(&self, _: impl Isa, row: usize) -> Result<Row, NonFinite> {
        let zero = of_row(self.zero_points, row).unwrap_or(0);
        Ok(Row::new(of_row(self.scales, row).unwrap_or(1.0), i32::from(zero)))
    }

    #[inline(always)]
    fn fill_part(&self, _: Row, row: usize, k: usize, codes: &mut [u8]) {
        let from = &self.codes[row * self.k + k..][..codes.len()];
        for (code, from) in codes.iter_mut().zip(from) {
            *code = *from as u8 ^ 0x80;
        }
    }
}

/// Floats that are quantized with parameters given or found.
#[derive(Clone, Copy)]
pub(super) struct FloatRows<'a> {
    pub(super) values: &'a [f32],
    pub(super) k: usize,
    pub(super) range: RangeOf,
    pub(super) qmin: i32,
    pub(super) qmax: i32,
}

/// Where the parameters of float rows come from.
#[derive(Clone, Copy)]
pub(super) enum RangeOf {
    /// Given, for values that are known to be finite.
    Finite(Row),
    /// Given; infinities saturate, and NaN is an error.
    Given(Row),
    /// Each row's own range.
    Row(Grid),
}

impl Source for FloatRows<'_> {
    #[inline(always)]
    fn row(&self, isa: impl Isa, row: usize) -> Result<Row, NonFinite> {
        let values = &self.values[row * self.k..][..self.k];
        match self.range {
            RangeOf::Finite(of) => Ok(of),
            RangeOf::Given(of) => {
                if (Ends { values }).run(isa).nan() {
                    return Err(first(values, row * self.k, |value| value.is_nan()));
                }
                Ok(of)
            }
            RangeOf::Row(grid) => {
                let ends = Ends { values }.run(isa);
                if !ends.finite() {
                    return Err(first(values, row * self.k, |value| !value.is_finite()));
                }
                let (lo, hi) = ends.range();
                Ok(row_of(grid, lo, hi))
            }
        }
    }

    #[inline(always)]
    fn fill<const N: usize>(
        &self,
        isa: impl Isa,
        of: Row,
        row: usize,
        k: usize,
        codes: &mut [u8; N],
    ) {
        let Some(values) = self.values[row * self.k + k..].first_chunk::<N>() else { return };
        self.affine(of).codes(isa, values, codes);
    }

    #[inline(always)]
    fn fill_part(&self, of: Row, row: usize, k: usize, codes: &mut [u8]) {
        let affine = self.affine(of);
        let values = &self.values[row * self.k + k..][..codes.len()];
        for (code, value) in codes.iter_mut().zip(values) {
            *code = affine.code(*value) as u8 ^ 0x80;
        }
    }
}

impl FloatRows<'_> {
    #[inline(always)]
    fn affine(&self, of: Row) -> Affine {
        Affine::new(of.scale, of.zero - 128, self.qmin, self.qmax)
    }
}

/// Rules 1 and 2 for a finite range.
pub(super) fn row_of(grid: Grid, lo: f32, hi: f32) -> Row {
    // Neither can fail: the ends are finite, and an f32 scale of a finite range is finite.
    let params = Values::new(lo.min(0.0), hi.max(0.0)).and_then(|range| grid.params(range).ok());
    params.map_or(Row::new(1.0, 0), |of| Row::new(of.scale, i32::from(of.zero_point)))
}

#[cold]
fn first(values: &[f32], start: usize, bad: impl Fn(&f32) -> bool) -> NonFinite {
    let at = values.iter().position(bad).unwrap_or(0);
    NonFinite { index: start + at, value: values[at] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_a_height_are_all_tiles_in_order() {
        for (rows, tallest, workers) in [(1, 4, 1), (7, 4, 2), (43, 12, 1), (44, 12, 3)] {
            let tiling = Tiling::new(rows, tallest, workers);
            for start in 0..tiling.tiles() {
                let mut end = start;
                for tiles in tiling.of_a_height(start..tiling.tiles()) {
                    assert_eq!(tiles.start, end);
                    let height = tiling.rows(tiles.start).len();
                    assert!((1..=tallest).contains(&height));
                    assert!(tiles.clone().all(|tile| tiling.rows(tile).len() == height));
                    end = tiles.end;
                }
                assert_eq!(end, tiling.tiles());
            }
        }
    }
}
