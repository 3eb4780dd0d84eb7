//! Which thread attends to which rows.

use super::block::{Block, Buffers, Call, ROWS, TALL};
use super::cache::KeyValueCache;
use super::error::AttentionError;
use crate::dispatch::Kernel;
use crate::gemm::scratch::threads_for;
use crate::gemm::shared::Shared;
use crate::parallel::{Shares, fork};
use alloc::vec::Vec;

/// Buffers that calls reuse; once they have grown to the longest context, nothing is allocated.
///
/// A value belongs to one thread at a time. Outputs do not depend on the number of threads.
#[derive(Debug)]
pub struct AttentionScratch {
    workers: Vec<Buffers>,
}

impl Default for AttentionScratch {
    fn default() -> Self {
        Self::new()
    }
}

impl AttentionScratch {
    /// Buffers for calls that run on the calling thread alone.
    pub fn new() -> Self {
        Self::with_threads(1)
    }

    /// Buffers for calls that may use up to `threads` threads of the current rayon pool, as
    /// [`Scratch::with_threads`](crate::Scratch::with_threads).
    pub fn with_threads(threads: usize) -> Self {
        let threads = if cfg!(feature = "rayon") { threads.max(1) } else { 1 };
        Self { workers: core::iter::repeat_with(Buffers::default).take(threads).collect() }
    }

    /// The most threads that a call uses.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The workers for so many multiplications.
    fn workers_for(&mut self, kernel: Kernel, products: usize) -> &mut [Buffers] {
        // Products of floats, and the functions between them, take four times as long as 8-bit ones.
        let products = products.saturating_mul(4);
        let count = threads_for(kernel, products, self.workers.len());
        &mut self.workers[..count]
    }
}

impl Kernel {
    /// Writes what the queries of the last tokens of a cache attend to.
    ///
    /// `queries` and `out` are `[tokens, query_heads · head_dim]`. A token sees itself and those before it.
    /// Query heads `g · i ..= g · i + g - 1` share head `i` of the cache, where `g` is the quotient of both
    /// numbers. The result of a token depends on its queries and on the cache up to its position, and on
    /// nothing else.
    ///
    /// # Errors
    /// - The query heads are not a multiple of the heads of the cache.
    /// - `queries` does not have whole rows, or more of them than the cache has tokens; or `out` differs
    ///   from it in length.
    /// - An element of a query is not finite, or too large to be quantized.
    pub fn attention(
        self,
        queries: &[f32],
        query_heads: usize,
        cache: &KeyValueCache,
        out: &mut [f32],
        scratch: &mut AttentionScratch,
    ) -> Result<(), AttentionError> {
        let tokens = check(self, queries, query_heads, cache, out)?;
        if tokens == 0 {
            return Ok(());
        }
        let shape = cache.shape;
        let group = query_heads / shape.heads;
        let call = Call { cache, queries, out: Shared::new(out), tokens, group };
        let workers = scratch.workers_for(self, queries.len().saturating_mul(2 * cache.len));
        let rows_at_once = rows_at_once(tokens * query_heads, workers.len());
        let blocks = (tokens * group).div_ceil(rows_at_once);
        let shares = Shares::new(blocks * shape.heads, workers.len());
        fork(workers, &|buffers| {
            while let Some(share) = shares.next() {
                for i in share {
                    // Later tokens see more positions: their rows come first.
                    let (block, head) = (blocks - 1 - i / shape.heads, i % shape.heads);
                    let first = block * rows_at_once;
                    let rows = first..(tokens * group).min(first + rows_at_once);
                    let block = Block { call, head, rows, buffers };
                    self.run_integer(block);
                }
            }
        });
        Ok(())
    }
}

/// The rows of a block, out of all rows: fewer than the most where some workers would have none.
fn rows_at_once(rows: usize, workers: usize) -> usize {
    /// Blocks of each worker.
    const BLOCKS: usize = 4;
    match workers {
        1 => ROWS,
        _ => rows.div_ceil(workers * BLOCKS).next_multiple_of(TALL).min(ROWS),
    }
}

/// The number of tokens.
fn check(
    kernel: Kernel,
    queries: &[f32],
    query_heads: usize,
    cache: &KeyValueCache,
    out: &[f32],
) -> Result<usize, AttentionError> {
    let (heads, of) = (cache.shape.heads, "queries");
    if query_heads == 0 || !query_heads.is_multiple_of(heads) {
        return Err(AttentionError::QueryHeads { query_heads, heads });
    }
    let row = query_heads.saturating_mul(cache.shape.head_dim);
    if !queries.len().is_multiple_of(row) {
        return Err(AttentionError::Rows { of, len: queries.len(), row });
    }
    let (tokens, len) = (queries.len() / row, cache.len);
    if tokens > len {
        return Err(AttentionError::Tokens { tokens, len });
    }
    if out.len() != queries.len() {
        let (expected, found) = (queries.len(), out.len());
        return Err(AttentionError::Length { of: "output", expected, found });
    }
    cache.check_elements(kernel, of, queries)?;
    Ok(tokens)
}
