//! The order of a panel's codes, as the instruction set that multiplies them reads it.

/// Codes that are ordered together: those a 128-bit shuffle can reach.
pub(crate) const BLOCK: usize = 16;

/// How the products of a block are summed, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BlockKind {
    /// Four in i16.
    Quads,
    /// Four in i16 in the first half of the block, two in the second.
    HalfQuads,
    /// Two in i16.
    Pairs,
    /// Codes and activations are widened to i16 first.
    Wide,
}

impl BlockKind {
    pub(crate) const ALL: [Self; 4] = [Self::Quads, Self::HalfQuads, Self::Pairs, Self::Wide];
}

/// The order of a panel, for who reads blocks as they are stored.
#[derive(Clone, Copy)]
pub(crate) struct PanelPermutation<'a> {
    /// Codes in the low bits, as a shuffle wants them; [`NEGATED`] where activations are `255 - a`.
    pub(crate) patterns: &'a [[u8; BLOCK]],
    pub(crate) sources: &'a [u16],
    /// Pairs of stored blocks of each kind, one kind after the other.
    pub(crate) pairs: [usize; BlockKind::ALL.len()],
}

/// Set in a pattern or a position whose code is negated. A shuffle ignores this bit.
pub(crate) const NEGATED: u8 = 0x40;
