//! The permutation of 8-bit codes along K that makes `vpmaddubsw` exact (AVX2).
//!
//! `vpmaddubsw` adds two products of an unsigned activation, `0 ..= 255`, and a signed code in i16, and two
//! such sums can be added in i16 before they are widened: four products, a *quad*. That is exact if, in every
//! column of the panel, neither the positive codes of the quad nor the negative ones sum to more than 128
//! (`128 · 255` fits i16), which is known when weights are packed. A sum does not depend on the order of its
//! terms, so quads can be chosen; and a code can be *negated*, `a · w = (255 - a) · -w + 255 · w`, where the
//! last term is known when weights are packed, too.
//!
//! ```text
//! for panel, for BLOCK of K
//!   find four quads, with negated codes as needed; else two quads and four pairs; else eight pairs
//!   store the codes in this order, and the permutation
//! store blocks of a kind together
//! ```
//! The product permutes a block of two rows of activations by one `vpshufb` and one `vpxor`, a twentieth of
//! its work. Blocks that cannot even be paired are widened to i16 in the product: [`BlockKind::Wide`].
//!
//! Of blocks of normally distributed codes, scaled by their largest, quads make up 35 % at 384 inputs, 60 %
//! at 512, 84 % at 768 and all at 3072; of a trained encoder's, 65 to 75 % at 384 and all at 1536. Without
//! negation hardly any would at 512. (FBGEMM keeps a sparse matrix of outliers for the same purpose.)

use crate::isa::permuted::{BLOCK, BlockKind, NEGATED, PanelPermutation};
use alloc::vec::Vec;

/// A bit for each code of a block.
pub(crate) type Set = u16;

/// The permutation of a block: position `i` holds code `order[i]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockPermutation {
    pub(crate) kind: BlockKind,
    pub(crate) order: [u8; BLOCK],
    /// The negated codes, by their index before the permutation.
    pub(crate) negated: Set,
}

/// The permutations of all panels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Permutations {
    /// Blocks of a panel.
    blocks: usize,
    /// For each stored block, the index of the code at each position; see [`PanelPermutation`].
    patterns: Vec<[u8; BLOCK]>,
    /// For each stored block, its index along K.
    sources: Vec<u16>,
    /// Pairs of blocks of each kind, for each panel.
    pairs: Vec<[usize; BlockKind::ALL.len()]>,
    /// For each block along K, its index in the order of storage.
    places: Vec<u16>,
    /// For each block along K, the position of each code; see [`InversePermutation`].
    positions: Vec<[u8; BLOCK]>,
}

/// The permutation of a panel, for reading codes along K.
#[derive(Clone, Copy)]
pub(crate) struct InversePermutation<'a> {
    pub(crate) blocks: &'a [u16],
    /// Positions in the low bits; [`NEGATED`] is set where `-code` is stored.
    pub(crate) positions: &'a [[u8; BLOCK]],
}

impl Permutations {
    pub(crate) fn new(blocks: usize) -> Self {
        Self { blocks, ..Self::default() }
    }

    /// Blocks of a panel.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Whether codes are in the order of K.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        let blocks = self.patterns.len() + self.positions.len();
        let pairs = self.pairs.len() * size_of::<[usize; BlockKind::ALL.len()]>();
        blocks * (BLOCK + size_of::<u16>()) + pairs
    }

    #[inline(always)]
    pub(crate) fn of(&self, panel: usize) -> PanelPermutation<'_> {
        let range = panel * self.blocks..(panel + 1) * self.blocks;
        PanelPermutation {
            patterns: &self.patterns[range.clone()],
            sources: &self.sources[range],
            pairs: self.pairs[panel],
        }
    }

    #[inline(always)]
    pub(crate) fn places(&self, panel: usize) -> InversePermutation<'_> {
        let range = panel * self.blocks..(panel + 1) * self.blocks;
        InversePermutation {
            blocks: &self.places[range.clone()],
            positions: &self.positions[range],
        }
    }

    /// Adds the permutation of the next panel, which has an even number of blocks.
    pub(crate) fn push(&mut self, permutations: &[BlockPermutation]) {
        let first = self.places.len();
        self.places.resize(first + permutations.len(), 0);
        self.positions.resize(first + permutations.len(), [0; BLOCK]);
        let mut blocks: Vec<_> = permutations.iter().enumerate().collect();
        blocks.sort_by_key(|of| of.1.kind);
        for (stored, (block, permutation)) in blocks.into_iter().enumerate() {
            let negate = |code: u8| (permutation.negated >> code & 1) as u8 * NEGATED;
            self.patterns.push(permutation.order.map(|code| code | negate(code)));
            self.sources.push(block as u16);
            for (at, code) in permutation.order.iter().enumerate() {
                self.positions[first + block][usize::from(*code)] = at as u8 | negate(*code);
            }
            self.places[first + block] = stored as u16;
        }
        // Two blocks are read at a time, and summed in the slower way of the two.
        let (mut before, mut pairs) = (0, [0; BlockKind::ALL.len()]);
        for (kind, pairs) in BlockKind::ALL.into_iter().zip(&mut pairs) {
            let end = permutations.iter().filter(|of| of.kind <= kind).count() / 2;
            (*pairs, before) = (end - before, end);
        }
        self.pairs.push(pairs);
    }
}
