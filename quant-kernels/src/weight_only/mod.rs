//! Float activations times quantized weights (`docs/numerics.md`, rule 11).
//!
//! ```text
//! for block of K, ascending
//!   p = 0
//!   for k in block, ascending: p = fma(x[m,k], f32(q[n,k] - z[n]), p)
//!   y = y + p · s[n]                      y = p · s[n] if there is one block
//! y = y + bias[n]
//! ```
//! Over a float minimum `m` (rule 13), with `t` the sum of `x` in the block:
//! `y = y + (p · s[n] + t · m[n])`, from 0.
//!
//! `fma` is rounded once, as is every other operation. Vectors run along N, so lanes do not interact, and the
//! order of operations is the same for each output, whatever the instruction set and the number of rows and
//! threads.
//!
//! Codes are converted to floats piece by piece, [`PIECE`] of K for a panel, and all rows use the piece
//! ([`block`]). With few rows, pieces are not even stored ([`gemv`]). The dequantized matrix never exists.
//!
//! Imports `gemm` and the layers below. Start with [`FloatProduct`].

mod block;
mod convert;
mod finish;
pub(crate) mod gemv;
mod rows;

use self::gemv::Gemv;
use self::rows::{PackRows, PackedRows};

use crate::dispatch::Kernel;
use crate::error::LinearError;
use crate::gemm::check::length;
use crate::gemm::driver::GemmCall;
use crate::gemm::epilogue::{Epilogue, Output, Strides, Target};
use crate::gemm::scratch::{Scratch, grown};
use crate::pack::b::PackedWeights;
use crate::parallel::{Shares, fork};
use core::ops::Range;

/// Values along K in a piece: 64 · 32 columns · 4 B = 8 KiB of floats, a part of the first-level cache.
const PIECE: usize = 64;

/// Rows of the tallest tile: 6 rows · 2 vectors = 12 accumulators, two vectors of weights and a broadcast, 15
/// of 16 registers. With more registers, eight rows are no faster.
const MR: usize = 6;

/// Rows that use a piece together. Their accumulators, 128 · 32 columns · 4 B = 16 KiB, stay in the first-level
/// cache where blocks of K are short, and else in the second-level cache, with as many sums.
const BLOCK_ROWS: usize = 64;

/// Values along K that are multiplied without a branch.
const UNROLL: usize = 4;

/// Prefetch distance in bytes for few rows. The hardware prefetcher stops at the end of a page, and starts
/// later.
const AHEAD: usize = 2048;

/// Floats in a cache line.
const LINE: usize = 16;

impl Kernel {
    /// [`Kernel::linear`] for [`Activations::Float`](crate::Activations::Float).
    pub(crate) fn linear_weight_only(
        self,
        weights: &PackedWeights,
        x: &[f32],
        m: usize,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        let call = GemmCall {
            kernel: self,
            weights,
            m,
            epilogue: *epilogue,
            strides: Strides::by_rows(weights.n),
        };
        call.check(&output)?;
        if matches!(output, Output::I32(_)) {
            return Err(LinearError::NoSingleAccumulator);
        }
        length("activations", m.saturating_mul(weights.k), x.len())?;
        length("output", m.saturating_mul(weights.n), output.len())?;
        let target = Target::new(output);
        // A float product takes as long as about four products of codes.
        let count = scratch.workers_for(self, &[4, m, weights.n, weights.k]);
        let few = m <= weights.gemv_rows;
        let packed_len = if few { 0 } else { m * rows::padded_len(weights) };
        let sums_len = if weights.words.minimums { m * weights.segments() } else { 0 };
        let buffer = grown(&mut scratch.floats, packed_len + sums_len, 0.0);
        let (packed, sums) = buffer.split_at_mut(packed_len);
        PackRows { weights, x, m }.run(PackedRows { x: packed, sums }, count);
        let x = if few { x } else { packed };
        let shares = Shares::new(weights.panels(), count);
        fork(&mut scratch.workers[..count], &|worker| {
            let len = if few { 0 } else { block::room(m) };
            while let Some(panels) = shares.next() {
                let room = grown(&mut worker.accumulators, len, 0.0);
                // SAFETY: shares have no panel in common, and the target is borrowed mutably for the
                // whole call.
                let product = unsafe {
                    FloatProduct::new(weights, (x, sums), m, panels, epilogue, target, room)
                };
                product.run_on(self);
            }
        });
        Ok(())
    }
}

/// All rows times some panels.
struct FloatProduct<'a> {
    weights: &'a PackedWeights,
    /// `[m, k]` for few rows; [packed](rows) for others.
    x: &'a [f32],
    /// See [`PackedRows::sums`].
    sums: &'a [f32],
    m: usize,
    panels: Range<usize>,
    epilogue: &'a Epilogue<'a>,
    target: Target<'a>,
    /// See [`block::room`]; empty for few rows.
    room: &'a mut [f32],
}

impl<'a> FloatProduct<'a> {
    /// # Safety
    /// No other product that runs at the same time has one of these panels, and nothing else refers to the
    /// output meanwhile.
    unsafe fn new(
        weights: &'a PackedWeights,
        (x, sums): (&'a [f32], &'a [f32]),
        m: usize,
        panels: Range<usize>,
        epilogue: &'a Epilogue<'a>,
        target: Target<'a>,
        room: &'a mut [f32],
    ) -> Self {
        Self { weights, x, sums, m, panels, epilogue, target, room }
    }

    /// Whether `y` starts from 0, to which the term of each block is added.
    fn adds_to_zero(&self) -> bool {
        self.weights.segments() > 1 || self.weights.words.minimums
    }

    /// Runs the loop for this number of rows, or the one for any number.
    fn run_on(self, kernel: Kernel) {
        let (arithmetic, packed) = (self.weights.arithmetic, self.weights.bits == 4);
        if self.m > self.weights.gemv_rows {
            return kernel.multiply_floats(arithmetic, self);
        }
        macro_rules! rows {
            ($($rows:literal)+) => {
                match (self.m, packed) {
                    $(($rows, true) => kernel.run_as(arithmetic, Gemv::<$rows, true>(self)),
                    ($rows, false) => kernel.run_as(arithmetic, Gemv::<$rows, false>(self)),)+
                    _ => {}
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8);
    }
}
