//! Scales and zero points of rows of codes.

use super::sizes::{BLOCK, PANEL, zeroed};
use crate::isa::Isa;
use crate::scheme::KeyValueScheme;
use alloc::vec::Vec;
use core::ops::Range;

/// For each head and block of dimensions, one for each position, in whole panels.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    /// The blocks of a head.
    blocks: usize,
    /// The positions of a block.
    positions: usize,
    /// Scales, in half precision.
    halves: Vec<u16>,
    /// The zero points of unsigned codes of 4 bits, those of two blocks in a byte.
    zeros: Vec<u8>,
}

impl Parameters {
    /// Room for those of `rows` rows of `dim` codes, if there is enough memory.
    pub(super) fn new(
        scheme: KeyValueScheme,
        heads: usize,
        dim: usize,
        rows: usize,
    ) -> Option<Self> {
        let blocks = dim.div_ceil(BLOCK);
        let positions = rows.checked_next_multiple_of(PANEL)?;
        let count = heads.checked_mul(positions)?.checked_mul(blocks)?;
        let pairs = heads.checked_mul(positions)?.checked_mul(blocks.div_ceil(2))?;
        let count_if = |used: bool, count| if used { count } else { 0 };
        Some(Self {
            blocks,
            positions,
            halves: zeroed(count_if(scheme != KeyValueScheme::F32, count))?,
            zeros: zeroed(count_if(scheme == KeyValueScheme::Int4, pairs))?,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.halves) + self.zeros.len()
    }

    /// The place of a scale.
    #[inline(always)]
    fn at(&self, head: usize, block: usize, position: usize) -> usize {
        (head * self.blocks + block) * self.positions + position
    }

    /// The place of a zero point, and its shift in there.
    #[inline(always)]
    fn zero_at(&self, head: usize, block: usize, position: usize) -> (usize, usize) {
        let pair = head * self.blocks.div_ceil(2) + block / 2;
        (pair * self.positions + position, block % 2 * 4)
    }

    /// Sets the scale of a block, in half precision.
    #[inline(always)]
    pub(super) fn set_scale(&mut self, [head, block, position]: [usize; 3], half: u16) {
        let at = self.at(head, block, position);
        self.halves[at] = half;
    }

    /// Sets the zero point of the unsigned codes of a block.
    #[inline(always)]
    pub(super) fn set_zero(&mut self, [head, block, position]: [usize; 3], zero: u8) {
        let (at, shift) = self.zero_at(head, block, position);
        self.zeros[at] = self.zeros[at] & !(15 << shift) | zero << shift;
    }

    /// The scales of a block, in half precision.
    #[inline(always)]
    pub(super) fn halves(&self, head: usize, block: usize, positions: Range<usize>) -> &[u16] {
        &self.halves[self.at(head, block, positions.start)..][..positions.len()]
    }

    /// The zero points of a block of unsigned codes.
    #[inline(always)]
    pub(super) fn zeros(
        &self,
        head: usize,
        block: usize,
        positions: Range<usize>,
    ) -> impl Iterator<Item = u8> {
        let (at, shift) = self.zero_at(head, block, positions.start);
        self.zeros[at..][..positions.len()].iter().map(move |zeros| zeros >> shift & 15)
    }

    /// The zero points of as many rows as a vector has lanes.
    #[inline(always)]
    pub(super) fn load_zeros<I: Isa>(
        &self,
        isa: I,
        head: usize,
        block: usize,
        position: usize,
    ) -> I::Ints {
        let (at, shift) = self.zero_at(head, block, position);
        let [low, high] = isa.split_nibbles(isa.load_unsigned(&self.zeros[at..][..I::LANES]));
        if shift == 0 { low } else { high }
    }
}
