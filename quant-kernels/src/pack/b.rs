//! Weights in the order in which a kernel reads them.
//!
//! ```text
//! weights   panel 0 │ panel 1 │ …                 COLUMNS outputs each, the last one filled up
//! panel     segment 0 │ segment 1 │ …             one per block along K, or one for all of K
//! segment   step 0 │ step 1 │ …                   filled up to whole groups of steps; K may be in
//!                                               an `order` of its own
//! step      column 0: VALUES codes │ column 1 │ …
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
use crate::pack::permutation::Orders;
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
    pub(crate) columns: usize,
    /// [`Isa::GEMV_ROWS`].
    pub(crate) gemv_rows: usize,
    /// Rows of the tallest tile.
    pub(crate) tallest: usize,
    /// [`Isa::UNPACKS`], or [`Isa::WIDENS`] of codes of 8 bits.
    pub(crate) unpacks: usize,
    pub(crate) data: Vec<Line>,
    /// Bytes of a panel as stored.
    pub(crate) panel_bytes: usize,
    /// Steps of each segment of a panel, once unpacked.
    pub(crate) steps: Vec<usize>,
    /// Lines of one prepared row of activations: each segment starts with a new one.
    pub(crate) lines: usize,
    /// Empty, unless `arithmetic` is [`Arithmetic::Ordered`].
    pub(crate) orders: Orders,
    /// `[panel][segment][word][column]`: see [`Words`].
    pub(crate) parameters: Vec<i32>,
    pub(crate) words: Words,
    /// Whether sums start with something of a row alone: [`Isa::ROW_STARTS`].
    pub(crate) row_starts: bool,
}

/// What [`Columns`] has: the bits of scales, terms, bases, zero points; the latter two if needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) bases: bool,
    pub(crate) zeros: bool,
}

impl Words {
    pub(crate) const SCALES: usize = 0;
    pub(crate) const TERMS: usize = 1;
    pub(crate) const BASES: usize = 2;

    pub(crate) fn zeros(self) -> usize {
        2 + usize::from(self.bases)
    }

    pub(crate) fn count(self) -> usize {
        self.zeros() + usize::from(self.zeros)
    }
}

/// What belongs to the columns of a panel in one segment.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) scales: &'a [f32],
    pub(crate) terms: &'a [i32],
    /// Empty if all are zero.
    pub(crate) zeros: &'a [i32],
    /// Where sums start, if not at 0: [`Isa::BASES`].
    pub(crate) bases: &'a [i32],
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
        self.data.len() * size_of::<Line>() + self.orders.bytes() + words
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
        self.n.div_ceil(self.columns)
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
    pub(crate) fn has_zeros(&self) -> bool {
        self.words.zeros
    }

    /// What packed codes are stored with, to be unsigned.
    pub(crate) fn half(&self) -> u8 {
        1 << (self.bits - 1)
    }

    /// 0 if panels are multiplied as they are stored, whatever the number of rows.
    pub(crate) fn unpacked_panel_bytes(&self) -> usize {
        match (self.bits, self.unpacks) {
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
        debug_assert_eq!(self.words.bases, I::BASES);
        let words = Words { bases: I::BASES, ..self.words };
        let each = words.count() * I::COLUMNS;
        let at = (panel * self.segments() + segment) * each;
        let (scales, rest) = self.parameters[at..][..each].split_at(I::COLUMNS);
        let (terms, rest) = rest.split_at(I::COLUMNS);
        let (bases, zeros) = rest.split_at(if I::BASES { I::COLUMNS } else { 0 });
        Columns { scales: bytemuck::cast_slice(scales), terms, zeros, bases }
    }

    /// Where a word of [`Words`] is.
    pub(crate) fn word(&self, word: usize, panel: usize, segment: usize) -> usize {
        ((panel * self.segments() + segment) * self.words.count() + word) * self.columns
    }
}
