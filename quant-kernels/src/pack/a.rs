//! Packed activations: rows of codes in the order in which the microkernels read them.
//!
//! Rows are cut into tiles ([`Tiling`]). Within a tile, the lines of its rows alternate:
//!
//! ```text
//! tile      line 0 of row 0 │ line 0 of row 1 │ … │ line 1 of row 0 │ …
//! ```
//! A tile is then read from front to back, the lines of a row are at a constant distance, and no two lines
//! that are used together fall into the same set of the cache, whatever K is. Each [unit](super::units) of K
//! starts with a new half of a line, and is padded by 0. Codes are stored as `code + 128`, unsigned, unless the
//! kernel multiplies signed activations ([`Isa::SIGNED_ACTIVATIONS`], [`Isa::UNSIGNED_BITS`]).
//!
//! For a [permutation](super::permutation), quarters of lines alternate, which are its blocks: two rows are
//! permuted at a time.

use super::source::{Row, Source};
use super::tiling::Tiling;
use crate::dispatch::Arithmetic;
use crate::isa::Operation;
use crate::isa::permuted::BLOCK;
use crate::isa::{Isa, Line, QUANTIZE_LANES};
use crate::pack::b::PackedWeights;
use crate::pack::units::{HALF_LINE, Units};
use crate::scheme::NonFinite;
use core::ops::Range;

/// Packs the rows of some tiles.
pub(crate) struct PackA<'a, S> {
    pub(crate) source: S,
    pub(crate) weights: &'a PackedWeights,
    pub(crate) units: &'a Units,
    pub(crate) tiling: Tiling,
    pub(crate) tiles: Range<usize>,
    /// For `tiles` only; so the three below.
    pub(crate) lines: &'a mut [Line],
    /// `[row]`, or `[tile][unit][row]` if the source has blocks. Zero points are those of signed codes.
    pub(crate) rows: &'a mut [Row],
    /// `[tile][unit][row]`: the sum of the codes less their zero point; empty unless
    /// [`PackedWeights::has_row_sums`].
    pub(crate) row_sums: &'a mut [i32],
    /// `[tile][unit][row]`: the initial accumulators; empty unless [`PackedWeights::row_init`].
    pub(crate) row_init: &'a mut [i32],
}

impl<S: Source> Operation for PackA<'_, S> {
    type Output = Result<(), NonFinite>;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Output {
        let first = self.tiling.rows(self.tiles.start).start;
        for tile in self.tiles.clone() {
            let rows = self.tiling.rows(tile);
            let place = TilePlace { before: rows.start - first, rows };
            // All parameters before the first row is filled: computing them ends in a long dependent chain, which
            // overlaps with the next row.
            self.parameters(isa, &place)?;
            for row in place.rows.clone() {
                self.pack_row(isa, &place, row);
            }
        }
        Ok(())
    }
}

/// The position of a tile in the packed rows.
struct TilePlace {
    /// Packed rows before it.
    before: usize,
    rows: Range<usize>,
}

impl TilePlace {
    /// The index of a value for each unit and row of a tile.
    #[inline(always)]
    fn index(&self, units: usize, unit: usize, row: usize) -> usize {
        self.before * units + unit * self.rows.len() + (row - self.rows.start)
    }
}

/// The codes of a unit that go into a line.
#[derive(Clone, Copy)]
struct Part {
    row: usize,
    /// The first code.
    k: usize,
    len: usize,
    /// The position of the first code in the line.
    at: usize,
}

impl<S: Source> PackA<'_, S> {
    #[inline(always)]
    fn parameters<I: Isa>(&mut self, isa: I, place: &TilePlace) -> Result<(), NonFinite> {
        if self.source.block().is_none() {
            for row in place.rows.clone() {
                self.rows[place.index(1, 0, row)] = self.source.row(isa, row)?;
            }
            return Ok(());
        }
        for row in place.rows.clone() {
            for (u, unit) in self.units.all.iter().enumerate() {
                let to = place.index(self.units.count(), u, row);
                self.rows[to] = self.source.of_block(isa, row, unit.k.clone())?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn pack_row<I: Isa>(&mut self, isa: I, place: &TilePlace, row: usize) {
        const { assert!(I::UNSIGNED_BITS.is_empty() || I::KR == 4 && !I::WINOGRAD) };
        const { assert!(!I::SIGNED_ACTIVATIONS || I::KR == 4 && !I::WINOGRAD) };
        let (weights, units, height) = (self.weights, self.units, place.rows.len());
        let lines = &mut self.lines[place.before * units.lines..][..height * units.lines];
        // AVX2 packs rows for codes that are not unsigned, too: permuted ones, and those of AVX-VNNI.
        let signed = I::SIGNED_ACTIVATIONS || !I::UNSIGNED_BITS.is_empty() && weights.shift != 0;
        let sums = weights.common_zero != 0 || !self.row_sums.is_empty();
        let blocks = self.source.block().is_some();
        for (u, unit) in units.all.iter().enumerate() {
            let to = place.index(units.count(), u, row);
            let row_at = if blocks { to } else { place.index(1, 0, row) };
            let of = self.rows[row_at];
            let (mut sum, mut start) = (0i32, 0i32);
            let (mut step, mut k) = (unit.at, unit.first);
            while k < unit.k.end {
                let within = step % Line::STEPS;
                let end = unit.k.end.min(k + (Line::STEPS - within) * I::KR);
                let from = k.max(unit.k.start);
                let at = within * I::KR + (from - k);
                let part = Part { row, k: from, len: end - from, at };
                let full = part.len == Line::STEPS * I::KR;
                // Full lines have code of their own, which is whole vectors.
                let line = if full {
                    let part = Part { len: Line::STEPS * I::KR, at: 0, ..part };
                    let line = line_of(isa, &self.source, of, part);
                    finish_line(isa, line, part, (sums, signed), (&mut sum, &mut start))
                } else {
                    let line = line_of(isa, &self.source, of, part);
                    finish_line(isa, line, part, (sums, signed), (&mut sum, &mut start))
                };
                let group = &mut lines[step / Line::STEPS * height..][..height];
                let r = row - place.rows.start;
                // Permuted codes have four values in a k-step: known at compile time.
                if I::KR == 4 && weights.arithmetic == Arithmetic::Permuted {
                    place_quarters(line, r, group);
                } else if within == 0 {
                    group[r] = line;
                } else {
                    group[r].0[HALF_LINE..].copy_from_slice(&line.0[HALF_LINE..]);
                }
                (step, k) = (step + Line::STEPS - within, k + (Line::STEPS - within) * I::KR);
            }
            let sum = sum.wrapping_sub(of.zero.wrapping_mul(unit.k.len() as i32));
            if !self.row_sums.is_empty() {
                self.row_sums[to] = sum;
            }
            if weights.row_init {
                self.row_init[to] = start.wrapping_sub(weights.common_zero.wrapping_mul(sum));
            }
            if blocks {
                self.rows[to].zero -= 128;
            }
        }
        if !blocks {
            self.rows[place.index(1, 0, row)].zero -= 128;
        }
    }
}

/// Adds what depends on a line alone to the sum of its codes and to the initial accumulators. Gives the line as
/// it is multiplied.
#[inline(always)]
fn finish_line<I: Isa>(
    isa: I,
    mut line: Line,
    part: Part,
    (sums, signed): (bool, bool),
    (sum, start): (&mut i32, &mut i32),
) -> Line {
    if sums {
        *sum += sum_of(&line);
    }
    if I::WINOGRAD {
        *start = start.wrapping_sub(isa.neighbour_products(&line));
    }
    if signed {
        make_signed(isa, &mut line, part);
    }
    line
}

/// A line with some codes, and 0 elsewhere.
#[inline(always)]
fn line_of<I: Isa>(isa: I, source: &impl Source, of: Row, part: Part) -> Line {
    let mut line = Line::ZERO;
    if I::KR == 4 {
        fill(isa, source, of, part, line.bytes_mut());
        return line;
    }
    let mut codes = [0; 32];
    fill(isa, source, of, part, &mut codes);
    widened(&codes)
}

/// A line of 32 codes as i16.
#[inline(always)]
fn widened(codes: &[u8; 32]) -> Line {
    let mut line = Line::ZERO;
    let words: &mut [u16; 32] = bytemuck::cast_mut(&mut line);
    for i in 0..32 {
        words[i] = u16::from(codes[i]);
    }
    line
}

/// Writes the codes of a line: `N` if it is full.
#[inline(always)]
fn fill<const N: usize>(
    isa: impl Isa,
    source: &impl Source,
    of: Row,
    part: Part,
    codes: &mut [u8; N],
) {
    const HALF: usize = QUANTIZE_LANES;
    let Part { row, k, len, at } = part;
    if len == N {
        return source.fill(isa, of, row, k, codes);
    }
    let codes = &mut codes[at..][..len];
    match codes.first_chunk_mut::<HALF>() {
        Some(codes) if len == HALF => source.fill(isa, of, row, k, codes),
        _ => source.fill_part(of, row, k, codes),
    }
}

/// Writes row `r` of a tile among the lines of all its rows, a quarter at a time.
#[inline(always)]
fn place_quarters(line: Line, r: usize, group: &mut [Line]) {
    let rows = group.len();
    let quarters: &mut [[u8; BLOCK]] = bytemuck::cast_slice_mut(group);
    for (q, quarter) in line.bytes().as_chunks().0.iter().enumerate() {
        quarters[q * rows + r] = *quarter;
    }
}

/// The sum of the codes in a line of either kind: the high bytes of i16 are 0.
#[inline(always)]
fn sum_of(line: &Line) -> i32 {
    let mut sum = 0;
    for byte in line.bytes() {
        sum += i32::from(*byte);
    }
    sum
}

/// Subtracts 128 from the codes of a line, and leaves the rest 0.
#[inline(always)]
fn make_signed<I: Isa>(isa: I, line: &mut Line, part: Part) {
    if part.len == 64 {
        return isa.flip_signs(line);
    }
    for code in &mut line.bytes_mut()[part.at..][..part.len] {
        *code ^= 0x80;
    }
}
