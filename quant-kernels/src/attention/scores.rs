//! Scores: products of queries and keys, with lanes along positions.
//!
//! A pass takes two vectors of positions of a panel, and up to six rows of queries, whose accumulators stay
//! in registers.

use super::cache::KeyValueCache;
use super::panels::{Panels, Step};
use super::queries::{Queries, WORDS};
use super::sizes::{BLOCK, PANEL};
use crate::float::sqrt;
use crate::isa::Isa;
use crate::scheme::KeyValueScheme;
use core::array::from_fn;

/// Some rows of queries, the first of which is `first`, against all keys of a head up to some panel.
#[derive(Clone, Copy)]
pub(super) struct Scores<'a> {
    pub(super) cache: &'a KeyValueCache,
    pub(super) head: usize,
    pub(super) panels: usize,
    /// The rows of a cache of floats.
    pub(super) floats: &'a [f32],
    /// Those of a quantized one.
    pub(super) queries: &'a Queries,
    pub(super) first: usize,
}

/// Positions of a pass: two vectors.
type Vectors<T> = [T; 2];

impl Scores<'_> {
    /// Writes the scores of `R` rows, each of `row_len` positions.
    #[inline(always)]
    pub(super) fn run<I: Isa, const R: usize>(&self, isa: I, out: &mut [f32], row_len: usize) {
        let root = sqrt(self.cache.shape.head_dim as f32);
        if self.cache.scheme() == KeyValueScheme::Int4 {
            self.start_from_centers::<I, R>(isa, out, row_len);
        }
        for panel in 0..self.panels {
            let centers: [f32; R] = from_fn(|r| out[r * row_len + panel * PANEL]);
            for positions in (0..PANEL).step_by(I::NR) {
                let sums: [Vectors<I::Floats>; R] = match self.cache.scheme() {
                    KeyValueScheme::F32 => self.floats(isa, panel, positions),
                    KeyValueScheme::Int8 => self.bytes(isa, &self.cache.keys, panel, positions),
                    KeyValueScheme::Int4 => self.nibbles(isa, panel, positions, centers),
                };
                for r in 0..R {
                    let out = &mut out[r * row_len + panel * PANEL + positions..][..I::NR];
                    for v in 0..2 {
                        let score = divided(isa, sums[r][v], root);
                        isa.store(score, &mut out[v * I::LANES..][..I::LANES]);
                    }
                }
            }
        }
    }

    /// Writes what the scores of a panel begin with, before they are divided, to the first of them: the
    /// products of the queries and its center.
    #[inline(always)]
    fn start_from_centers<I: Isa, const R: usize>(&self, isa: I, out: &mut [f32], row_len: usize) {
        for first in (0..self.panels).step_by(I::NR) {
            let (panel, positions) = (first / PANEL, first % PANEL);
            let sums: [Vectors<I::Floats>; R] =
                self.bytes(isa, &self.cache.centers, panel, positions);
            for (r, sums) in sums.into_iter().enumerate() {
                let mut products = [0.0; PANEL];
                isa.store(sums[0], &mut products[..I::LANES]);
                isa.store(sums[1], &mut products[I::LANES..I::NR]);
                for (panel, product) in (first..self.panels).zip(&products[..I::NR]) {
                    out[r * row_len + panel * PANEL] = *product;
                }
            }
        }
    }

    #[inline(always)]
    fn floats<I: Isa, const R: usize>(
        &self,
        isa: I,
        panel: usize,
        positions: usize,
    ) -> [Vectors<I::Floats>; R] {
        let dim = self.cache.shape.head_dim;
        let rows: [&[f32]; R] = from_fn(|r| &self.floats[(self.first + r) * dim..][..dim]);
        let mut sums = [[isa.splat(0.0); 2]; R];
        for (d, step) in self.cache.keys.panel(self.head, panel).iter().enumerate().take(dim) {
            let keys = load::<I>(isa, bytemuck::cast_ref(step), positions);
            for r in 0..R {
                let query = isa.splat(rows[r][d]);
                for v in 0..2 {
                    sums[r][v] = isa.fused(query, keys[v], sums[r][v]);
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn bytes<I: Isa, const R: usize>(
        &self,
        isa: I,
        keys: &Panels,
        panel: usize,
        positions: usize,
    ) -> [Vectors<I::Floats>; R] {
        let rows: [&[[i32; WORDS]]; R] = from_fn(|r| self.queries.words(self.first + r));
        let row_sums: [&[i32]; R] = from_fn(|r| self.queries.sums(self.first + r));
        let query_scales: [f32; R] = from_fn(|r| self.queries.scale(self.first + r));
        let mut scores = [[isa.splat(0.0); 2]; R];
        let first = panel * PANEL + positions;
        for (block, steps) in keys.panel(self.head, panel).chunks(WORDS).enumerate() {
            // Kernels that add to keys have sums that are too large.
            let mut sums = [[isa.zero(); 2]; R];
            for r in 0..R {
                sums[r] = [isa.splat_int(-I::KEY_OFFSET * row_sums[r][block]); 2];
            }
            let words: [&[i32; WORDS]; R] = from_fn(|r| &rows[r][block]);
            for (s, step) in steps.iter().enumerate().take(WORDS) {
                let keys = load_ints::<I>(isa, step, positions);
                for r in 0..R {
                    let query = isa.splat_int(words[r][s]);
                    for v in 0..2 {
                        sums[r][v] = isa.dot_signed(sums[r][v], query, keys[v]);
                    }
                }
            }
            let scales = load_scales::<I>(isa, keys, self.head, block, first);
            for r in 0..R {
                let query_scale = isa.splat(query_scales[r]);
                for v in 0..2 {
                    let scale = isa.mul(query_scale, scales[v]);
                    let term = isa.mul(isa.to_floats(sums[r][v]), scale);
                    scores[r][v] = isa.add(scores[r][v], term);
                }
            }
        }
        scores
    }

    #[inline(always)]
    fn nibbles<I: Isa, const R: usize>(
        &self,
        isa: I,
        panel: usize,
        positions: usize,
        centers: [f32; R],
    ) -> [Vectors<I::Floats>; R] {
        let keys = &self.cache.keys;
        let rows: [&[[i32; WORDS]]; R] = from_fn(|r| self.queries.words(self.first + r));
        let row_sums: [&[i32]; R] = from_fn(|r| self.queries.sums(self.first + r));
        let query_scales: [f32; R] = from_fn(|r| self.queries.scale(self.first + r));
        let mut scores = [[isa.splat(0.0); 2]; R];
        for r in 0..R {
            scores[r] = [isa.splat(centers[r]); 2];
        }
        let first = panel * PANEL + positions;
        let steps = keys.panel(self.head, panel);
        for (block, steps) in steps.chunks(BLOCK / 8).enumerate() {
            let scales = load_scales::<I>(isa, keys, self.head, block, first);
            let zeros = [
                keys.parameters.load_zeros(isa, self.head, block, first),
                keys.parameters.load_zeros(isa, self.head, block, first + I::LANES),
            ];
            let mut keys = [[isa.zero(); BLOCK / 8]; 2];
            for (s, step) in steps.iter().enumerate().take(BLOCK / 8) {
                let loaded = load_ints::<I>(isa, step, positions);
                (keys[0][s], keys[1][s]) = (loaded[0], loaded[1]);
            }
            for r in 0..R {
                let query_scale = isa.splat(query_scales[r]);
                let row_sum = isa.splat_int(row_sums[r][block]);
                for v in 0..2 {
                    let sum = isa.dot_packed(isa.zero(), &rows[r][block], &keys[v]);
                    let sum = isa.subtract_product(sum, zeros[v], row_sum);
                    let scale = isa.mul(query_scale, scales[v]);
                    let term = isa.mul(isa.to_floats(sum), scale);
                    scores[r][v] = isa.add(scores[r][v], term);
                }
            }
        }
        scores
    }
}

/// A quotient. Where `by` is a power of two, its inverse is exact, and so much faster.
#[inline(always)]
fn divided<I: Isa>(isa: I, x: I::Floats, by: f32) -> I::Floats {
    const FRACTION: u32 = (1 << 23) - 1;
    if by.to_bits() & FRACTION == 0 {
        isa.mul(x, isa.splat(1.0 / by))
    } else {
        isa.div(x, isa.splat(by))
    }
}

/// Two vectors from position `from` of a panel on.
#[inline(always)]
fn load<I: Isa>(isa: I, values: &[f32; PANEL], from: usize) -> Vectors<I::Floats> {
    let values = &values[from..][..I::NR];
    [isa.load(&values[..I::LANES]), isa.load(&values[I::LANES..])]
}

/// Two vectors from position `from` of a panel on.
#[inline(always)]
fn load_ints<I: Isa>(isa: I, values: &Step, from: usize) -> Vectors<I::Ints> {
    let values = &values[from..][..I::NR];
    [isa.load_ints(&values[..I::LANES]), isa.load_ints(&values[I::LANES..])]
}

/// The scales of a block of the keys from a position on.
#[inline(always)]
fn load_scales<I: Isa>(
    isa: I,
    keys: &Panels,
    head: usize,
    block: usize,
    first: usize,
) -> Vectors<I::Floats> {
    let halves = keys.parameters.halves(head, block, first..first + I::NR);
    let (low, high) = halves.split_at(I::LANES);
    [isa.load_halves(low), isa.load_halves(high)]
}
