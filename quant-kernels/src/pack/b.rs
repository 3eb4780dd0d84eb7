//! Packed weights: codes in the order in which the microkernels read them.
//!
//! ```text
//! weights   panel 0 │ panel 1 │ …                 NR outputs each, the last one padded
//! panel     segment 0 │ segment 1 │ …             one per block along K, or one for all of K
//! segment   k-step 0 │ k-step 1 │ …               padded to whole groups; K may be permuted
//! k-step    column 0: KR codes │ column 1 │ …
//! ```
//! Codes of 4 and 2 bits stay packed: each stored k-step holds two or four k-steps, the first in the low
//! bits, as unsigned numbers (`code + 8` or `code + 2`). Padding is code 0, where activations are 0, too;
//! that matters where codes are multiplied as stored ([`Isa::UNSIGNED_BITS`]).
//!
//! Let `c` be a code as it is multiplied, `code` or `code + half`, and `zc` its zero point, shifted alike. With
//! activations `a` and their zero point `za`, shifted alike, too,
//! `Σ (a - za) · (c - zc) = Σ a · c - za · Σ c - zc · Σ (a - za)`.
//! The column offset `Σ c` is stored for each block of activations or segment ([`Units`]) and column. The last
//! sum, the row sum, is taken when rows are packed. Its product with `zc` is a part of the initial accumulators
//! of the row if `zc` is the same for all codes, and else computed for each column. All of this wraps in i32:
//! the final value fits, so intermediate values may overflow.

use crate::dispatch::{Arithmetic, Kernel};
use crate::error::LinearError;
use crate::isa::lanes::{load, load_halves};
use crate::isa::{Isa, Line, Operation};
use crate::pack::permutation::Permutations;
use crate::pack::units::Units;
use crate::scheme::f32_to_f16;
use alloc::vec::Vec;
use core::ops::Range;

/// Weights that are packed for one kernel. Other kernels refuse them.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    pub(crate) kernel: Kernel,
    pub(crate) arithmetic: Arithmetic,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// The length of a segment, at most `k`.
    pub(crate) segment: usize,
    /// The length of a block of weights along K, whatever `k` is; `None` if they have none.
    pub(crate) block: Option<usize>,
    pub(crate) bits: usize,
    pub(crate) nr: usize,
    /// [`Isa::GEMV_ROWS`].
    pub(crate) gemv_rows: usize,
    /// [`Isa::MR`].
    pub(crate) mr: usize,
    /// [`Isa::UNPACK_ABOVE`], or [`Isa::WIDEN_ABOVE`] for 8-bit codes.
    pub(crate) unpack_above: usize,
    pub(crate) data: Vec<Line>,
    /// Bytes of a panel as stored.
    pub(crate) panel_bytes: usize,
    /// K-steps of each segment of a panel, once unpacked.
    pub(crate) steps: Vec<usize>,
    /// Segments as units of activations.
    pub(crate) segment_units: Units,
    /// Blocks of activations that are shorter than segments, if weights are packed for them.
    pub(crate) block_units: Option<Units>,
    /// Empty, unless `arithmetic` is [`Arithmetic::Permuted`].
    pub(crate) permutations: Permutations,
    /// `[panel][segment]`: see [`ColumnWords`].
    pub(crate) parameters: Vec<i32>,
    pub(crate) words: ColumnWords,
    pub(crate) serves: Serves,
    /// What is added to a code before it is multiplied in integers: `half` or 0.
    pub(crate) shift: i32,
    /// The zero point of all codes as they are multiplied; 0 if they differ.
    pub(crate) common_zero: i32,
    /// Whether accumulators start with a value that depends on the row.
    pub(crate) row_init: bool,
}

/// The activations that packed weights multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// Quantized ones, and floats.
    All,
    /// Those without zero points, and floats.
    NoZeroPoints,
    /// Floats alone.
    Floats,
}

/// The parameters of a panel in one segment, as words: a scale of each column, and, if needed, a zero point and a
/// minimum of each.
///
/// Scales and minimums of blocks take a visible share of memory. So two columns share a word if half precision
/// has all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColumnWords {
    /// Columns of a panel.
    pub(crate) nr: usize,
    pub(crate) halves: bool,
    pub(crate) zero_points: bool,
    pub(crate) minimums: bool,
}

impl ColumnWords {
    /// Words of a float of each column.
    fn floats(self) -> usize {
        if self.halves { self.nr / 2 } else { self.nr }
    }

    /// The first word of zero points.
    pub(crate) fn zero_points_at(self) -> usize {
        self.floats()
    }

    /// The first word of minimums.
    pub(crate) fn minimums_at(self) -> usize {
        self.zero_points_at() + if self.zero_points { self.nr } else { 0 }
    }

    /// All words.
    pub(crate) fn count(self) -> usize {
        self.minimums_at() + if self.minimums { self.floats() } else { 0 }
    }

    /// Sets the float of a column, in words that start with that of the first column.
    pub(crate) fn set(self, words: &mut [i32], column: usize, value: f32) {
        if self.halves {
            bytemuck::cast_slice_mut(words)[column] = f32_to_f16(value);
        } else {
            bytemuck::cast_slice_mut(words)[column] = value;
        }
    }

    /// The floats of all columns, from words that start with them.
    #[inline(always)]
    pub(crate) fn load<I: Isa>(self, isa: I, words: &[i32]) -> [I::Floats; 2] {
        if self.halves {
            return load_halves(isa, bytemuck::cast_slice(&words[..I::NR / 2]));
        }
        load(isa, bytemuck::cast_slice(&words[..I::NR]))
    }
}

/// The parameters of a panel in one segment.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    of: ColumnWords,
    words: &'a [i32],
}

impl<'a> Columns<'a> {
    #[inline(always)]
    pub(crate) fn scales<I: Isa>(self, isa: I) -> [I::Floats; 2] {
        self.of.load(isa, self.words)
    }

    /// Those of codes as they are multiplied; `None` if all are the same.
    #[inline(always)]
    pub(crate) fn zero_points(self) -> Option<&'a [i32]> {
        let zero_points = || &self.words[self.of.zero_points_at()..][..self.of.nr];
        self.of.zero_points.then(zero_points)
    }

    #[inline(always)]
    pub(crate) fn minimums<I: Isa>(self, isa: I) -> Option<[I::Floats; 2]> {
        if !self.of.minimums {
            return None;
        }
        Some(self.of.load(isa, &self.words[self.of.minimums_at()..]))
    }
}

impl PackedWeights {
    /// The kernel that these weights are packed for.
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The number of outputs.
    pub const fn n(&self) -> usize {
        self.n
    }

    /// The number of inputs.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// The blocks along K with a scale of their own; 1 if a row has one.
    pub fn blocks(&self) -> usize {
        self.segments()
    }

    /// The bytes of memory that the packed weights take.
    pub fn bytes(&self) -> usize {
        let words = self.parameters.len() * size_of::<i32>();
        let sums = self.segment_units.bytes() + self.block_units.as_ref().map_or(0, Units::bytes);
        self.data.len() * size_of::<Line>() + self.permutations.bytes() + words + sums
    }

    /// Runs an operation with the instruction set that multiplies these weights.
    pub(crate) fn multiply<O: Operation>(&self, operation: O) -> O::Output {
        self.kernel.multiply(self.arithmetic, operation)
    }

    /// [`PackedWeights::multiply`] for panels that are [unpacked](super::unpack) already.
    pub(crate) fn multiply_unpacked<O: Operation>(&self, operation: O) -> O::Output {
        self.kernel.multiply_unpacked(self.arithmetic, operation)
    }

    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(self.nr)
    }

    pub(crate) fn segments(&self) -> usize {
        self.steps.len()
    }

    /// The range of K in a segment.
    pub(crate) fn segment_range(&self, segment: usize) -> Range<usize> {
        let start = segment * self.segment;
        start..self.k.min(start + self.segment)
    }

    /// Whether some zero point is not 0.
    pub(crate) fn has_zero_points(&self) -> bool {
        self.words.zero_points || self.common_zero != self.shift
    }

    /// The zero point of all codes, as they are given, if it is the same.
    pub(crate) fn zero_point(&self) -> i32 {
        self.common_zero - self.shift
    }

    /// Whether the sums of `a - za` of rows are kept.
    pub(crate) fn has_row_sums(&self) -> bool {
        self.words.zero_points || self.words.minimums
    }

    /// The difference of a packed code as it is stored and its value.
    pub(crate) fn half(&self) -> u8 {
        1 << (self.bits - 1)
    }

    /// Bytes of an unpacked panel; 0 if panels are always multiplied as they are stored.
    pub(crate) fn unpacked_panel_bytes(&self) -> usize {
        match (self.bits, self.unpack_above) {
            (8, 0) => 0,
            (8, _) => self.panel_bytes * 2,
            (4, usize::MAX) => 0,
            (bits, _) => self.panel_bytes * 8 / bits,
        }
    }

    /// The codes of a panel as they are stored.
    pub(crate) fn panel<T: bytemuck::Pod>(&self, panel: usize) -> &[T] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.data);
        bytemuck::cast_slice(&bytes[panel * self.panel_bytes..][..self.panel_bytes])
    }

    /// The parameters of a panel, for the instruction set that multiplies these weights.
    #[inline(always)]
    pub(crate) fn columns_of<I: Isa>(&self, panel: usize, segment: usize) -> Columns<'_> {
        let of = ColumnWords { nr: I::NR, ..self.words };
        let each = of.count();
        let at = (panel * self.segments() + segment) * each;
        Columns { of, words: &self.parameters[at..][..each] }
    }

    /// Whether rows that are packed for these weights are packed for others, too.
    pub(crate) fn shares_rows(&self, other: &Self) -> bool {
        let of = |weights: &Self| {
            let Self { kernel, arithmetic, k, segment, shift, common_zero, row_init, mr, .. } =
                *weights;
            let sums = weights.has_row_sums();
            ((kernel, arithmetic, k, segment), (shift, common_zero, row_init, mr, sums))
        };
        let blocks = |weights: &Self| weights.block_units.as_ref().map(|units| units.len);
        of(self) == of(other) && self.steps == other.steps && blocks(self) == blocks(other)
    }

    /// The units of rows with one scale each, or of rows with a scale for each `block` of activations.
    pub(crate) fn units(&self, block: Option<usize>) -> Result<&Units, LinearError> {
        let Some(activations) = block else { return Ok(&self.segment_units) };
        match (self.block, &self.block_units) {
            (Some(weights), _) if !weights.is_multiple_of(activations) => {
                Err(LinearError::BlockLengths { weights, activations })
            }
            (Some(weights), _) if weights == activations => Ok(&self.segment_units),
            _ if activations >= self.k => Ok(&self.segment_units),
            (_, Some(units)) if units.len == activations => Ok(units),
            (_, units) => {
                let packed_for = units.as_ref().map(|units| units.len);
                Err(LinearError::OtherBlocks { packed_for, activations })
            }
        }
    }

    /// Whether these activations can be multiplied.
    pub(crate) fn check_serves(&self, symmetric: bool) -> Result<(), LinearError> {
        match self.serves {
            Serves::Floats => Err(LinearError::PackedForFloats),
            Serves::NoZeroPoints if !symmetric => Err(LinearError::ZeroPoints),
            Serves::All | Serves::NoZeroPoints => Ok(()),
        }
    }
}
