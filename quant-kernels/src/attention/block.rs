//! Attention of some rows of queries that share a head of keys.
//!
//! ```text
//! quantize the rows
//! for some rows            scores of all positions, in registers for two vectors of them
//! for each row             softmax over the positions that it sees; 0 for the others
//! for each block of dimensions
//!   for each tile of positions
//!     convert the values
//!     for some rows        sums of weighted values
//! ```

use super::cache::KeyValueCache;
use super::queries::Queries;
use super::scores::Scores;
use super::sizes::{BLOCK, PANEL};
use super::sums::{self, TILE, Tile, Values, Weights};
use super::turn::turn;
use crate::float::softmax::softmax;
use crate::gemm::scratch::grown;
use crate::gemm::shared::Shared;
use crate::isa::{Isa, Operation};
use crate::scheme::KeyValueScheme;
use alloc::vec::Vec;
use core::ops::Range;

/// The most rows of a block, for which values are converted once.
pub(super) const ROWS: usize = 24;

/// The most rows whose accumulators are in registers together.
pub(super) const TALL: usize = 6;

/// The number of rows for so few. Others are padded to a multiple of [`TALL`].
const LOW: usize = 3;

/// The queries of a call.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) cache: &'a KeyValueCache,
    pub(super) queries: &'a [f32],
    pub(super) out: Shared<'a, f32>,
    pub(super) tokens: usize,
    /// The query heads of a head of keys.
    pub(super) group: usize,
}

/// The buffers of a thread.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    queries: Queries,
    /// Rows of queries, if they are not quantized, then rows of results, in whole blocks.
    floats: Vec<f32>,
    out: Vec<[f32; BLOCK]>,
    /// Scores, then probabilities.
    probabilities: Vec<f32>,
}

/// Some of the rows that share a head of keys: the query heads of the first token, then those of the next.
pub(super) struct Block<'a> {
    pub(super) call: Call<'a>,
    pub(super) head: usize,
    pub(super) rows: Range<usize>,
    pub(super) buffers: &'a mut Buffers,
}

impl Call<'_> {
    /// The number of positions that a row sees.
    fn seen(&self, row: usize) -> usize {
        self.cache.len - self.tokens + row / self.group + 1
    }

    /// Where the queries of a row begin, and its results.
    pub(super) fn place(&self, head: usize, row: usize) -> usize {
        let (token, member) = (row / self.group, row % self.group);
        let heads = self.cache.shape.heads;
        ((token * heads + head) * self.group + member) * self.cache.shape.head_dim
    }
}

impl Operation for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { call, head, rows, buffers } = self;
        let Buffers { queries, floats, out, probabilities } = buffers;
        let (dim, count) = (call.cache.shape.head_dim, rows.len());
        let padded = count.next_multiple_of(if count <= LOW { LOW } else { TALL });
        let seen = call.seen(rows.end - 1);
        let panels = seen.div_ceil(PANEL);

        load_queries(isa, &call, head, rows.clone(), (padded, queries, floats));
        let row_len = panels * PANEL;
        let probabilities = grown(probabilities, padded * row_len, 0.0);
        let scores = Scores { cache: call.cache, head, panels, floats, queries, first: 0 };
        all_scores(isa, scores, row_len, probabilities);
        for (row, scores) in rows.clone().zip(probabilities.chunks_exact_mut(row_len)) {
            let (seen, unseen) = scores.split_at_mut(call.seen(row));
            softmax(isa, seen);
            unseen.fill(0.0);
        }

        let blocks = dim.div_ceil(BLOCK);
        let out = grown(out, padded * blocks, [0.0; BLOCK]);
        out.fill([0.0; BLOCK]);
        for (block, out) in out.chunks_exact_mut(padded).enumerate() {
            let values = Values { cache: call.cache, head, block };
            weighted(isa, values, seen, (&probabilities[..count * row_len], row_len), out);
        }
        for (i, row) in rows.enumerate() {
            // SAFETY: different heads and rows have different places, and no other worker has this head
            // with these rows. The output is borrowed mutably for the call.
            let place = unsafe { call.out.slice(call.place(head, row), dim) };
            for (place, rows) in place.chunks_mut(BLOCK).zip(out.chunks_exact(padded)) {
                place.copy_from_slice(&rows[i][..place.len()]);
            }
            if call.cache.scheme() != KeyValueScheme::F32 {
                turn(place);
            }
            for value in place {
                // A weight of 0, as those of padding, may turn -0 into +0.
                *value += 0.0;
            }
        }
    }
}

/// Loads the rows of queries that scores need, followed by padding.
#[inline(always)]
fn load_queries<I: Isa>(
    isa: I,
    call: &Call<'_>,
    head: usize,
    rows: Range<usize>,
    (padded, queries, floats): (usize, &mut Queries, &mut Vec<f32>),
) {
    let dim = call.cache.shape.head_dim;
    if call.cache.scheme() == KeyValueScheme::F32 {
        let floats = grown(floats, padded * dim, 0.0);
        for (row, floats) in rows.zip(floats.chunks_exact_mut(dim)) {
            floats.copy_from_slice(&call.queries[call.place(head, row)..][..dim]);
        }
    } else {
        queries.start(padded, dim);
        for (i, row) in rows.enumerate() {
            queries.set(isa, i, &call.queries[call.place(head, row)..][..dim]);
        }
    }
}

/// The scores of all rows, some at a time.
#[inline(always)]
fn all_scores<I: Isa>(isa: I, mut scores: Scores<'_>, row_len: usize, out: &mut [f32]) {
    let mut rest = out;
    while rest.len() >= TALL * row_len {
        let (rows, others) = rest.split_at_mut(TALL * row_len);
        scores.run::<I, TALL>(isa, rows, row_len);
        scores.first += TALL;
        rest = others;
    }
    if !rest.is_empty() {
        scores.run::<I, LOW>(isa, rest, row_len);
    }
}

/// The sums of weighted values of a block of dimensions, for all rows.
#[inline(always)]
fn weighted<I: Isa>(
    isa: I,
    values: Values<'_>,
    seen: usize,
    (probabilities, row_len): (&[f32], usize),
    out: &mut [[f32; BLOCK]],
) {
    let mut tile: Tile = [[0.0; BLOCK]; TILE];
    let mut weights: [Weights; ROWS] = [[0.0; TILE]; ROWS];
    for start in (0..seen).step_by(TILE) {
        let positions = start..seen.min(start + TILE);
        for (row, weights) in probabilities.chunks_exact(row_len).zip(&mut weights) {
            values.weights(isa, positions.clone(), row, weights);
        }
        if let (Ok(out), true) = (<&mut [_; LOW]>::try_from(&mut *out), values.has_loop_for_few()) {
            let weights = weights.first_chunk().expect("more weights than rows");
            values.add_few(isa, positions, weights, out);
            continue;
        }
        values.load(isa, positions.clone(), &mut tile);
        let tile = &tile[..positions.len()];
        let (tall, low) = out.as_chunks_mut::<TALL>();
        let mut first = 0;
        for out in tall {
            sums::add(isa, tile, &weights[first..], out.each_mut());
            first += TALL;
        }
        for out in low.as_chunks_mut::<LOW>().0 {
            sums::add(isa, tile, &weights[first..], out.each_mut());
            first += LOW;
        }
    }
}
