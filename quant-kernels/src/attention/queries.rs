//! Queries, as scores read them.

use super::append::{codes, words};
use super::sizes::BLOCK;
use super::turn::turned;
use crate::elementwise::affine::Affine;
use crate::elementwise::min_max::FindRange;
use crate::gemm::scratch::grown;
use crate::isa::{Isa, Operation};
use crate::scheme::{Grid, Mapping, QuantParams, QuantizationType, Range, ScaleType};
use alloc::vec::Vec;

/// Words of the codes of a block.
pub(super) const WORDS: usize = BLOCK / 4;

/// Some rows of queries in 8 bits.
#[derive(Debug, Default)]
pub(super) struct Queries {
    /// For each row its codes, four in each word, in whole blocks.
    words: Vec<[i32; WORDS]>,
    /// For each row and block the sum of its codes.
    sums: Vec<i32>,
    /// For each row its scale.
    scales: Vec<f32>,
    blocks: usize,
    /// A row that is being quantized.
    turned: Vec<f32>,
}

impl Queries {
    /// Makes room for rows of `dim` values.
    pub(super) fn start(&mut self, rows: usize, dim: usize) {
        self.blocks = dim.div_ceil(BLOCK);
        grown(&mut self.words, rows * self.blocks, [0; WORDS]);
        grown(&mut self.sums, rows * self.blocks, 0);
        grown(&mut self.scales, rows, 0.0);
    }

    /// Turns a row and quantizes it.
    #[inline(always)]
    pub(super) fn set<I: Isa>(&mut self, isa: I, row: usize, values: &[f32]) {
        let turned = turned(grown(&mut self.turned, values.len(), 0.0), values);
        let affine = symmetric(isa, turned);
        self.scales[row] = affine.scale();
        for (block, values) in turned.chunks(BLOCK).enumerate() {
            let codes = codes(isa, affine, values);
            let at = row * self.blocks + block;
            self.words[at] = words(&codes);
            self.sums[at] = codes.iter().map(|code| i32::from(*code)).sum();
        }
    }

    pub(super) fn words(&self, row: usize) -> &[[i32; WORDS]] {
        &self.words[row * self.blocks..][..self.blocks]
    }

    /// The sum of the codes of each block.
    pub(super) fn sums(&self, row: usize) -> &[i32] {
        &self.sums[row * self.blocks..][..self.blocks]
    }

    pub(super) fn scale(&self, row: usize) -> f32 {
        self.scales[row]
    }
}

/// The parameters of 8-bit codes of finite values.
#[inline(always)]
fn symmetric<I: Isa>(isa: I, values: &[f32]) -> Affine {
    const GRID: Grid = Grid::new(QuantizationType::QInt8, Mapping::Symmetric, ScaleType::F32);
    let (lo, hi) = FindRange { values }.run(isa).range();
    let range = Range::new(lo, hi).unwrap_or(Range::ZERO);
    let scale = GRID.params(range).map_or(1.0, QuantParams::scale);
    Affine::new(scale, 0, -127, 127)
}
