//! Packed activations: rows of codes in the order in which the microkernels read them.
//!
//! Rows are cut into tiles ([`Tiling`]). Within a tile, the lines of its rows alternate:
//!
//! ```text
//! tile      line 0 of row 0 │ line 0 of row 1 │ … │ line 1 of row 0 │ …
//! ```
//! A tile is then read from front to back, the lines of a row are at a constant distance, and no two lines
//! that are used together fall into the same set of the cache, whatever K is. Each segment of K starts with
//! a new line, whose rest is padded by 0. Codes are stored as `code + 128`, unsigned, unless the kernel
//! multiplies unsigned weights of at most 4 bits ([`Isa::UNSIGNED_CODES`]).
//!
//! For a [permutation](super::permutation), quarters of lines alternate, which are its blocks: two rows are
//! permuted at a time.

use super::source::{Row, Source};
use super::tiling::Tiling;
use crate::dispatch::Arithmetic;
use crate::isa::Operation;
use crate::isa::permuted::BLOCK;
use crate::isa::{Isa, Line};
use crate::pack::b::PackedWeights;
use crate::scheme::NonFinite;
use core::array::from_fn;
use core::ops::Range;

/// Packs the rows of some tiles.
pub(crate) struct PackA<'a, S> {
    pub(crate) source: S,
    pub(crate) weights: &'a PackedWeights,
    pub(crate) tiling: Tiling,
    pub(crate) tiles: Range<usize>,
    /// For `tiles` only; so the three below.
    pub(crate) lines: &'a mut [Line],
    pub(crate) rows: &'a mut [Row],
    /// `[tile][segment][row]`: the sum of the codes less their zero point; empty unless
    /// [`PackedWeights::has_row_sums`].
    pub(crate) row_sums: &'a mut [i32],
    /// `[tile][segment][row]`: the initial accumulators; empty unless [`PackedWeights::row_init`].
    pub(crate) row_init: &'a mut [i32],
}

impl<S: Source> Operation for PackA<'_, S> {
    type Output = Result<(), NonFinite>;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Output {
        let lines_per_row = self.weights.lines;
        let first = self.tiling.rows(self.tiles.start).start;
        for tile in self.tiles.clone() {
            let rows = self.tiling.rows(tile);
            let place = TilePlace { first, lines: (rows.start - first) * lines_per_row, rows };
            let rows = &place.rows;
            // All parameters before the first row is filled: computing them ends in a long dependent chain, which
            // overlaps with the next row.
            for row in rows.clone() {
                self.rows[row - first] = self.source.row(isa, row)?;
            }
            for row in rows.clone() {
                self.pack_row(isa, &place, row);
            }
        }
        Ok(())
    }
}

/// The position of a tile in the packed rows.
struct TilePlace {
    /// The index of the first packed row.
    first: usize,
    rows: Range<usize>,
    /// The index of the first line.
    lines: usize,
}

impl<S: Source> PackA<'_, S> {
    #[inline(always)]
    fn pack_row<I: Isa>(&mut self, isa: I, place: &TilePlace, row: usize) {
        const { assert!(!I::UNSIGNED_CODES || I::KR == 4 && !I::WINOGRAD) };
        let weights = self.weights;
        // AVX2 packs rows for codes that are not unsigned, too: permuted ones, and those of AVX-VNNI.
        let signed = I::UNSIGNED_CODES && weights.shift != 0;
        let sums = weights.common_zero != 0 || !self.row_sums.is_empty();
        let TilePlace { first, ref rows, lines } = *place;
        let of = self.rows[row - first];
        let mut groups = self.lines[lines..].chunks_exact_mut(rows.len());
        for segment in 0..weights.segments() {
            let range = weights.segment_range(segment);
            let (mut sum, mut start) = (0i32, 0i32);
            for k in range.clone().step_by(Line::STEPS * I::KR) {
                let (Some(group), left) = (groups.next(), range.end - k) else { break };
                let mut line = if I::KR == 4 {
                    bytes(isa, &self.source, of, (row, k), left)
                } else {
                    words(isa, &self.source, of, (row, k), left)
                };
                if sums {
                    sum += sum_of(&line);
                }
                if signed {
                    make_signed(&mut line, left);
                }
                if I::WINOGRAD {
                    start = start.wrapping_sub(products_of(&line));
                }
                // Permuted codes have four values in a k-step: known at compile time.
                if I::KR == 4 && weights.arithmetic == Arithmetic::Permuted {
                    place_quarters(line, row - rows.start, group);
                } else {
                    group[row - rows.start] = line;
                }
            }
            let sum = sum.wrapping_sub(of.zero.wrapping_mul(range.len() as i32));
            let to = (rows.start - first) * weights.segments() + segment * rows.len();
            let to = to + (row - rows.start);
            if !self.row_sums.is_empty() {
                self.row_sums[to] = sum;
            }
            if weights.row_init {
                self.row_init[to] = start.wrapping_sub(weights.common_zero.wrapping_mul(sum));
            }
        }
        if signed {
            self.rows[row - first].zero -= 128;
        }
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

/// The sum of the codes in a line of either kind: the high bytes of i16 are 0.
#[inline(always)]
fn sum_of(line: &Line) -> i32 {
    let mut sum = 0;
    for byte in line.bytes() {
        sum += i32::from(*byte);
    }
    sum
}

/// Subtracts 128 from the first `left` codes of a line, and clears the others.
#[inline(always)]
fn make_signed(line: &mut Line, left: usize) {
    for code in line.bytes_mut() {
        *code ^= 0x80;
    }
    if left < 64 {
        line.bytes_mut()[left..].fill(0);
    }
}

/// The part of [`Isa::WINOGRAD`] that depends on the row alone, for a line of i16.
#[inline(always)]
fn products_of(line: &Line) -> i32 {
    let words: &[i16; 32] = bytemuck::cast_ref(line);
    // Each pair times its neighbour counts every product twice; one instruction does it.
    let neighbours: [i16; 32] = from_fn(|i| words[i ^ 2]);
    let mut sum = 0;
    for i in 0..16 {
        let product = |i: usize| i32::from(words[i]) * i32::from(neighbours[i]);
        sum += product(2 * i) + product(2 * i + 1);
    }
    sum / 2
}
