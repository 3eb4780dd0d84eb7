//! Sums of values, weighted by probabilities, with lanes along dimensions.
//!
//! The values of a tile of positions are converted to floats once for all rows of a block.

use super::cache::KeyValueCache;
use super::sizes::{BLOCK, PANEL};
use crate::isa::Isa;
use crate::scheme::KeyValueScheme;
use core::array::from_fn;
use core::ops::Range;

/// Positions of a tile.
pub(super) const TILE: usize = 64;

/// Values of a tile: [`BLOCK`] dimensions of each position.
pub(super) type Tile = [[f32; BLOCK]; TILE];

/// The weights of a row.
pub(super) type Weights = [f32; TILE];

/// A block of dimensions of a head.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) cache: &'a KeyValueCache,
    pub(super) head: usize,
    pub(super) block: usize,
}

impl Values<'_> {
    /// Loads some positions, as what is multiplied by weights.
    #[inline(always)]
    pub(super) fn load<I: Isa>(&self, isa: I, positions: Range<usize>, tile: &mut Tile) {
        let row = self.head * self.cache.shape.capacity + positions.start;
        let tile = &mut tile[..positions.len()];
        match self.cache.scheme() {
            KeyValueScheme::F32 => self.load_floats(row, tile),
            KeyValueScheme::Int8 => self.load_bytes(isa, row, tile),
            KeyValueScheme::Int4 => self.load_nibbles(isa, row, positions.start, tile),
        }
    }

    /// The dimensions of the block.
    #[inline(always)]
    pub(super) fn dims(&self) -> Range<usize> {
        self.block * BLOCK..self.cache.shape.head_dim.min((self.block + 1) * BLOCK)
    }

    #[inline(always)]
    fn load_floats(&self, row: usize, tile: &mut [[f32; BLOCK]]) {
        let (dim, dims) = (self.cache.shape.head_dim, self.dims());
        for (tile, row) in tile.iter_mut().zip(self.cache.floats[row * dim..].chunks(dim)) {
            let row = &row[dims.clone()];
            match row.first_chunk() {
                Some(row) => *tile = *row,
                None => tile[..row.len()].copy_from_slice(row),
            }
        }
    }

    #[inline(always)]
    fn load_bytes<I: Isa>(&self, isa: I, row: usize, tile: &mut [[f32; BLOCK]]) {
        let (dim, dims) = (self.cache.shape.head_dim, self.dims());
        for (tile, row) in tile.iter_mut().zip(self.cache.codes[row * dim..].chunks(dim)) {
            let row = &row[dims.clone()];
            if let Some(row) = row.first_chunk::<BLOCK>() {
                for i in (0..BLOCK).step_by(I::LANES) {
                    let codes = isa.load_bytes(&row[i..][..I::LANES]);
                    isa.store(isa.to_floats(codes), &mut tile[i..][..I::LANES]);
                }
            } else {
                for (value, code) in tile.iter_mut().zip(row) {
                    *value = f32::from(*code as i8);
                }
            }
        }
    }

    #[inline(always)]
    fn load_nibbles<I: Isa>(&self, isa: I, row: usize, position: usize, tile: &mut [[f32; BLOCK]]) {
        let bytes = self.cache.row_bytes();
        let rows = self.cache.codes[row * bytes..].chunks(bytes);
        let positions = position..position + tile.len();
        let zeros = self.cache.parameters.zeros(self.head, self.block, positions);
        for ((tile, row), zero) in tile.iter_mut().zip(rows).zip(zeros) {
            let zero = isa.splat_int(i32::from(zero));
            let row = &row[self.block * (BLOCK / 2)..][..BLOCK / 2];
            let (left, right) = tile.split_at_mut(BLOCK / 2);
            for i in (0..BLOCK / 2).step_by(I::LANES) {
                let [low, high] = isa.split_nibbles(isa.load_unsigned(&row[i..][..I::LANES]));
                let low = isa.to_floats(isa.sub_ints(low, zero));
                let high = isa.to_floats(isa.sub_ints(high, zero));
                isa.store(low, &mut left[i..][..I::LANES]);
                isa.store(high, &mut right[i..][..I::LANES]);
            }
        }
    }

    /// The weights of some positions for this block: probabilities times scales. Whole panels are computed,
    /// which `probabilities` has, too.
    #[inline(always)]
    pub(super) fn weights<I: Isa>(
        &self,
        isa: I,
        positions: Range<usize>,
        probabilities: &[f32],
        weights: &mut Weights,
    ) {
        let len = positions.len().next_multiple_of(PANEL);
        let positions = positions.start..positions.start + len;
        let probabilities = &probabilities[positions.clone()];
        let (head, parameters) = (self.head, &self.cache.parameters);
        if self.cache.scheme() == KeyValueScheme::F32 {
            weights[..len].copy_from_slice(probabilities);
            return;
        }
        for i in (0..len).step_by(I::LANES) {
            let lanes = positions.start + i..positions.start + i + I::LANES;
            let scales = isa.load_halves(parameters.halves(head, self.block, lanes));
            let product = isa.mul(isa.load(&probabilities[i..][..I::LANES]), scales);
            isa.store(product, &mut weights[i..][..I::LANES]);
        }
    }
}

/// Adds the weighted values of a tile to `R` rows.
#[inline(always)]
pub(super) fn add<I: Isa, const R: usize>(
    isa: I,
    tile: &[[f32; BLOCK]],
    weights: &[Weights],
    out: [&mut [f32; BLOCK]; R],
) {
    let weights: [&Weights; R] = from_fn(|r| &weights[r]);
    for first in (0..BLOCK).step_by(I::NR) {
        let mut sums = [[isa.splat(0.0); 2]; R];
        for r in 0..R {
            sums[r] = load(isa, out[r], first);
        }
        for (t, values) in tile.iter().enumerate().take(TILE) {
            let values = load(isa, values, first);
            for r in 0..R {
                let weight = isa.splat(weights[r][t]);
                for v in 0..2 {
                    sums[r][v] = isa.fused(weight, values[v], sums[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..2 {
                isa.store(sums[r][v], &mut out[r][first + v * I::LANES..][..I::LANES]);
            }
        }
    }
}

/// Two vectors from dimension `from` on.
#[inline(always)]
fn load<I: Isa>(isa: I, values: &[f32; BLOCK], from: usize) -> [I::Floats; 2] {
    let values = &values[from..][..I::NR];
    [isa.load(&values[..I::LANES]), isa.load(&values[I::LANES..])]
}
