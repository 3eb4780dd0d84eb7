//! The permutation of a panel of codes, as the instruction set reads it.

/// Codes along K that are permuted together: the reach of a 128-bit shuffle.
pub(crate) const BLOCK: usize = 16;

/// How the products of a block are summed, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BlockKind {
    /// Four products are summed in i16.
    Quads,
    /// Four products in the first half of the block, two in the second.
    HalfQuads,
    /// Two products.
    Pairs,
    /// Codes and activations are widened to i16 before they are multiplied.
    Wide,
}

impl BlockKind {
    pub(crate) const ALL: [Self; 4] = [Self::Quads, Self::HalfQuads, Self::Pairs, Self::Wide];
}

/// The permutation of a panel, for reading blocks in the order of storage.
#[derive(Clone, Copy)]
pub(crate) struct PanelPermutation<'a> {
    /// The index of each code within its block, as a shuffle takes it; [`NEGATED`] is set where activations
    /// are replaced by `255 - a`.
    pub(crate) patterns: &'a [[u8; BLOCK]],
    pub(crate) sources: &'a [u16],
    /// Pairs of stored blocks of each kind, in the order of kinds. Read by AVX2 alone.
    #[cfg_attr(any(not(target_arch = "x86_64"), fuzzing), allow(dead_code))]
    pub(crate) pairs: [usize; BlockKind::ALL.len()],
}

/// The bit of a shuffle index that marks a negated code. The shuffle ignores it.
pub(crate) const NEGATED: u8 = 0x40;
