//! In which order a panel of 8-bit codes is stored, so that `vpmaddubsw` is exact (AVX2).
//!
//! `vpmaddubsw` adds two products of an unsigned activation, `0 ..= 255`, and a signed code in i16,
//! and two such sums can be added in i16 before they are widened. That is exact as long as neither
//! the positive codes of such a four nor the negative ones sum to more than [`LIMIT`], in every
//! column of the panel: known when weights are packed. A sum does not depend on the order of its
//! terms, so there is a choice of quads; and a term can be *negated*,
//! `a · w = (255 - a) · -w + 255 · w`, where the last part is known when weights are packed, too.
//!
//! ```text
//! for panel, for BLOCK of K
//!   find quads, negated as they need it; else two quads and four pairs; else pairs
//!   store the codes in this order, and the order
//! store blocks of a kind together
//! ```
//! The product brings a block of two rows of activations into the same order by one `vpshufb` and one
//! `vpxor`, a twentieth of the work. What cannot even be paired is widened to i16 in the product:
//! [`BlockKind::Wide`].
//!
//! Of blocks of normally distributed codes, scaled by their largest, quads make up 35 % at 384
//! inputs, 60 % at 512, 84 % at 768 and all at 3072; of a trained encoder's, 65 to 75 % at 384 and
//! all at 1536. Without mirroring hardly any would at 512. (FBGEMM keeps a sparse matrix of outliers
//! apart for the same purpose.)

use crate::isa::permuted::{BLOCK, BlockKind, NEGATED, PanelPermutation};
use alloc::vec::Vec;

/// A bit for each code of a block.
pub(crate) type Set = u16;

/// A block's order: position `i` holds code `order[i]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockPermutation {
    pub(crate) kind: BlockKind,
    pub(crate) order: [u8; BLOCK],
    /// Of the codes as they were.
    pub(crate) negated: Set,
}

/// The orders of all panels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Permutations {
    /// Blocks of a panel.
    blocks: usize,
    /// For each stored block, the code at each position of it; see [`PanelPermutation`].
    patterns: Vec<[u8; BLOCK]>,
    /// For each stored block, which one it is along K.
    sources: Vec<u16>,
    /// Pairs of blocks of each kind, for each panel.
    pairs: Vec<[usize; BlockKind::ALL.len()]>,
    /// For each block along K, which one it is as stored.
    places: Vec<u16>,
    /// For each block along K, the position of each code; see [`InversePermutation`].
    positions: Vec<[u8; BLOCK]>,
}

/// The order of a panel, for who reads codes along K.
#[derive(Clone, Copy)]
pub(crate) struct InversePermutation<'a> {
    pub(crate) blocks: &'a [u16],
    /// Positions in the low bits; [`NEGATED`] where the code that is stored is `-code`.
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

    /// Adds the order of the next panel, of an even number of blocks.
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
        // A block is summed as the one beside it is, if that one is slower: two are read at a time.
        let (mut before, mut pairs) = (0, [0; BlockKind::ALL.len()]);
        for (kind, pairs) in BlockKind::ALL.into_iter().zip(&mut pairs) {
            let end = permutations.iter().filter(|of| of.kind <= kind).count() / 2;
            (*pairs, before) = (end - before, end);
        }
        self.pairs.push(pairs);
    }
}
