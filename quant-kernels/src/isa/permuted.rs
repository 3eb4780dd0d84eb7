//! The order of a panel's codes, as the instruction set that multiplies them reads it.

/// Codes that are ordered together: those a 128-bit shuffle can reach.
pub(crate) const BLOCK: usize = 16;

/// How the products of a block are summed, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Four in i16.
    Fours,
    /// Four in i16 in the first half of the block, two in the second.
    Half,
    /// Two in i16.
    Pairs,
    /// Codes and activations are widened to i16 first.
    Wide,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Fours, Self::Half, Self::Pairs, Self::Wide];
}

/// The order of a panel, for who reads blocks as they are stored.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    /// Codes in the low bits, as a shuffle wants them; [`MIRRORED`] where activations are `255 - a`.
    pub(crate) patterns: &'a [[u8; BLOCK]],
    pub(crate) sources: &'a [u16],
    /// Pairs of stored blocks of each kind, one kind after the other.
    pub(crate) pairs: [usize; Kind::ALL.len()],
}

/// Set in a pattern or a position whose code is mirrored. A shuffle ignores this bit.
pub(crate) const MIRRORED: u8 = 0x40;
