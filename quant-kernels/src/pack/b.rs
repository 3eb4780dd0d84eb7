//! Weights in the order in which a kernel reads them.
//!
//! ```text
//! weights   panel 0 │ panel 1 │ …                 NR outputs each, the last one filled up
//! panel     segment 0 │ segment 1 │ …             one per block along K, or one for all of K
//! segment   step 0 │ step 1 │ …                   filled up to whole groups of steps; K may be in
//!                                               an `order` of its own
//! step      column 0: KR codes │ column 1 │ …
//! ```
//! Codes of 4 and 2 bits stay packed: a step then holds two or four steps, the first in the low
//! bits, as unsigned numbers (code + 8 or + 2). What fills up is code 0; activations there are 0, which
//! matters where codes are multiplied as they are stored ([`Isa::UNSIGNED_CODES`]).
//!
//! Beside the codes stand, per segment and column, the scale and
//! `term = Σ_k code - len · zero_point`: with activations `a` and their zero point `za`, both
//! shifted alike,
//! `Σ (a - za) · (code - zw) = Σ a · code - za · term - zw · Σ a`,
//! where the last sum is needed only if some `zw` is not 0. Where `Σ a · (code + half)` is summed, sums
//! start with `-half · Σ a`. All of it wraps in i32: the value it ends with fits, so what happens on
//! the way does not matter.

use crate::dispatch::{Arithmetic, Kernel};
use crate::isa::{Isa, Line, Operation};
use crate::pack::permutation::Permutations;
use alloc::vec::Vec;
use core::ops::Range;

/// Weights packed for one kernel; refused by any other.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    pub(crate) kernel: Kernel,
    pub(crate) arithmetic: Arithmetic,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Length of a segment, at most `k`.
    pub(crate) segment: usize,
    pub(crate) bits: usize,
    pub(crate) nr: usize,
    /// [`Isa::GEMV_ROWS`].
    pub(crate) gemv_rows: usize,
    /// Rows of the mr tile.
    pub(crate) mr: usize,
    /// [`Isa::UNPACK_ABOVE`], or [`Isa::WIDEN_ABOVE`] of codes of 8 bits.
    pub(crate) unpack_above: usize,
    pub(crate) data: Vec<Line>,
    /// Bytes of a panel as stored.
    pub(crate) panel_bytes: usize,
    /// Steps of each segment of a panel, once unpacked.
    pub(crate) steps: Vec<usize>,
    /// Lines of one prepared row of activations: each segment starts with a new one.
    pub(crate) lines: usize,
    /// Empty, unless `arithmetic` is [`Arithmetic::Permuted`].
    pub(crate) permutations: Permutations,
    /// `[panel][segment][word][column]`: see [`ColumnWords`].
    pub(crate) parameters: Vec<i32>,
    pub(crate) words: ColumnWords,
    /// Whether sums start with something of a row alone: [`Isa::ROW_INIT`].
    pub(crate) row_init: bool,
}

/// What [`Columns`] has: the bits of scales, column_offsets, column_init, zero points; the latter two if needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColumnWords {
    pub(crate) column_init: bool,
    pub(crate) zero_points: bool,
}

impl ColumnWords {
    pub(crate) const SCALES: usize = 0;
    pub(crate) const COLUMN_OFFSETS: usize = 1;
    pub(crate) const COLUMN_INIT: usize = 2;

    pub(crate) fn zero_points_at(self) -> usize {
        2 + usize::from(self.column_init)
    }

    pub(crate) fn count(self) -> usize {
        self.zero_points_at() + usize::from(self.zero_points)
    }
}

/// What belongs to the columns of a panel in one segment.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) scales: &'a [f32],
    pub(crate) column_offsets: &'a [i32],
    /// Empty if all are zero.
    pub(crate) zero_points: &'a [i32],
    /// Where sums start, if not at 0: [`Isa::COLUMN_INIT`].
    pub(crate) column_init: &'a [i32],
}

impl PackedWeights {
    /// The kernel that can use these weights.
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Outputs.
    pub const fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let words = self.parameters.len() * size_of::<i32>();
        self.data.len() * size_of::<Line>() + self.permutations.bytes() + words
    }

    /// Runs an operation with the instruction set that multiplies these weights.
    pub(crate) fn multiply<O: Operation>(&self, operation: O) -> O::Output {
        self.kernel.multiply(self.arithmetic, operation)
    }

    /// The same for panels that are [unpacked](super::unpack) already.
    pub(crate) fn multiply_unpacked<O: Operation>(&self, operation: O) -> O::Output {
        self.kernel.multiply_unpacked(self.arithmetic, operation)
    }

    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(self.nr)
    }

    pub(crate) fn segments(&self) -> usize {
        self.steps.len()
    }

    /// The part of K that is in a segment.
    pub(crate) fn segment_range(&self, segment: usize) -> Range<usize> {
        let start = segment * self.segment;
        start..self.k.min(start + self.segment)
    }

    /// Whether some zero point is not zero.
    pub(crate) fn has_zero_points(&self) -> bool {
        self.words.zero_points
    }

    /// What packed codes are stored with, to be unsigned.
    pub(crate) fn half(&self) -> u8 {
        1 << (self.bits - 1)
    }

    /// 0 if panels are multiplied as they are stored, whatever the number of rows.
    pub(crate) fn unpacked_panel_bytes(&self) -> usize {
        match (self.bits, self.unpack_above) {
            (8, 0) => 0,
            (8, _) => self.panel_bytes * 2,
            (bits, _) => self.panel_bytes * 8 / bits,
        }
    }

    /// The codes of a panel as they are stored.
    pub(crate) fn panel<T: bytemuck::Pod>(&self, panel: usize) -> &[T] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.data);
        bytemuck::cast_slice(&bytes[panel * self.panel_bytes..][..self.panel_bytes])
    }

    /// What belongs to the columns of a panel, for the instruction set that multiplies these weights.
    #[inline(always)]
    pub(crate) fn columns_of<I: Isa>(&self, panel: usize, segment: usize) -> Columns<'_> {
        debug_assert_eq!(self.words.column_init, I::COLUMN_INIT);
        let words = ColumnWords { column_init: I::COLUMN_INIT, ..self.words };
        let each = words.count() * I::NR;
        let at = (panel * self.segments() + segment) * each;
        let (scales, rest) = self.parameters[at..][..each].split_at(I::NR);
        let (column_offsets, rest) = rest.split_at(I::NR);
        let (column_init, zero_points) = rest.split_at(if I::COLUMN_INIT { I::NR } else { 0 });
        Columns { scales: bytemuck::cast_slice(scales), column_offsets, zero_points, column_init }
    }

    /// Where a word of [`ColumnWords`] is.
    pub(crate) fn word(&self, word: usize, panel: usize, segment: usize) -> usize {
        ((panel * self.segments() + segment) * self.words.count() + word) * self.nr
    }
}
