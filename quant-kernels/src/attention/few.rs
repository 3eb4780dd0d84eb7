//! Sums of weighted values of 8 bits for few rows.
//!
//! They are converted in registers, without a tile that further rows could use. With 4 bits, converting
//! takes as long as a tile saves.

use super::sizes::BLOCK;
use super::sums::{TILE, Values, Weights};
use crate::isa::Isa;
use crate::scheme::KeyValueScheme;
use core::ops::Range;

impl Values<'_> {
    /// Whether [`Values::add_few`] has a loop for the block: a whole one of 8-bit codes.
    pub(super) fn has_loop_for_few(&self) -> bool {
        self.cache.scheme() == KeyValueScheme::Int8 && self.dims().len() == BLOCK
    }

    /// Adds the weighted values of some positions, at most a tile, to `R` rows.
    #[inline(always)]
    pub(super) fn add_few<I: Isa, const R: usize>(
        &self,
        isa: I,
        positions: Range<usize>,
        weights: &[Weights; R],
        out: &mut [[f32; BLOCK]; R],
    ) {
        let dim = self.cache.shape.head_dim;
        let start = (self.head * self.cache.shape.capacity + positions.start) * dim;
        let rows = &self.cache.codes[start..][..positions.len() * dim];
        // Two vectors at a time: with four, AVX2 has too few registers.
        for first in (0..BLOCK).step_by(I::NR) {
            let mut sums = [[isa.splat(0.0); 2]; R];
            for r in 0..R {
                for v in 0..2 {
                    sums[r][v] = isa.load(&out[r][first + v * I::LANES..][..I::LANES]);
                }
            }
            for (t, row) in rows.chunks_exact(dim).enumerate().take(TILE) {
                let (low, high) = row[self.dims().start + first..][..I::NR].split_at(I::LANES);
                let values = [isa.load_bytes(low), isa.load_bytes(high)];
                let values = [isa.to_floats(values[0]), isa.to_floats(values[1])];
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
}
