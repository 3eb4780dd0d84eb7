//! Float activations times quantized weights (`docs/numerics.md`, rule 11).
//!
//! ```text
//! for block of K, ascending
//!   p = 0
//!   for k in block, ascending: p = fma(x[m,k], f32(q[n,k] - z[n]), p)
//!   y = y + p · s[n]                      y = p · s[n] if there is one block
//! y = y + bias[n]
//! ```
//! `fma` is rounded once, as is every other operation. Vectors run along N, so lanes do not interact, and the
//! order of operations is the same for each output, whatever the instruction set and the number of rows and
//! threads.
//!
//! Codes are converted to floats piece by piece, [`PIECE`] of K for a panel, and all rows use the piece. With
//! few rows, pieces are not even stored ([`gemv`]). The dequantized matrix never exists.
//!
//! Imports `gemm` and the layers below. Start with [`FloatProduct`].

pub(crate) mod gemv;

use self::gemv::Gemv;

use crate::dispatch::Kernel;
use crate::error::LinearError;
use crate::gemm::check::length;
use crate::gemm::driver::GemmCall;
use crate::gemm::epilogue::{Epilogue, Output, Strides, Target};
use crate::gemm::scratch::{Scratch, grown};
use crate::gemm::shared::Shared;
use crate::isa::Isa;
use crate::isa::Operation;
use crate::isa::lanes::{WIDEST, load, store};
use crate::isa::permuted::NEGATED;
use crate::pack::b::PackedWeights;
use crate::pack::permutation::InversePermutation;
use crate::pack::tiling::Tiling;
use crate::pack::unpack::UnpackSteps;
use crate::parallel::{Shares, fork};
use bytemuck::Zeroable;
use core::array::from_fn;
use core::ops::Range;

/// Values along K in a piece: 64 · 32 columns · 4 B = 8 KiB of floats, a part of the first-level cache.
const PIECE: usize = 64;

/// Rows of the tallest tile: 6 rows · 2 vectors = 12 accumulators, two vectors of weights and a broadcast, 15
/// of 16 registers. The rows of activations, which may all fall into the same set of a first-level cache, fit
/// into its eight ways. With more registers, eight rows are no faster.
const MR: usize = 6;

/// Prefetch distance in bytes for few rows. The hardware prefetcher stops at the end of a page, and starts
/// later.
const AHEAD: usize = 2048;

/// Rows that use a piece together: their accumulators, 96 · 32 columns · 2 · 4 B = 24 KiB, stay in the
/// second-level cache.
const BLOCK_ROWS: usize = 96;

/// Floats in a cache line.
const LINE: usize = 16;

/// The most panels of any instruction set that share a row of a piece.
const MOST_PANELS: usize = 4;

/// Some `k` of as many panels as make up [`WIDEST`] columns, so that all of them use each value of `x`.
/// Aligned to cache lines, so that no vector crosses one.
#[repr(align(64))]
struct Piece([[f32; WIDEST]; PIECE]);

/// Memory for the k-steps of a piece in unpacked order, and up to 8 more.
struct UnpackedSteps<I: Isa> {
    steps: [I::KStep; PIECE / 2 + 8],
}

impl<I: Isa> UnpackedSteps<I> {
    #[inline(always)]
    fn new() -> Self {
        Self { steps: [I::KStep::zeroed(); PIECE / 2 + 8] }
    }
}

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
        let call =
            GemmCall { kernel: self, weights, m, epilogue, strides: Strides::by_rows(weights.n) };
        call.check(&output)?;
        if weights.words.minimums {
            return Err(LinearError::FloatOverMinimums);
        }
        if matches!(output, Output::I32(_)) {
            return Err(LinearError::NoSingleAccumulator);
        }
        length("activations", m.saturating_mul(weights.k), x.len())?;
        length("output", m.saturating_mul(weights.n), output.len())?;
        let target = Target::new(output);
        // A float product takes as long as about four products of codes.
        let count = scratch.workers_for(self, &[4, m, weights.n, weights.k]);
        let shares = Shares::new(weights.panels(), count);
        fork(&mut scratch.workers[..count], &|worker| {
            while let Some(panels) = shares.next() {
                let sums =
                    grown(&mut worker.accumulators, 2 * BLOCK_ROWS.min(m) * WIDEST + LINE, 0.0);
                // SAFETY: shares have no panel in common, and the target is borrowed mutably for the
                // whole call.
                let product =
                    unsafe { FloatProduct::new(weights, x, m, panels, epilogue, target, sums) };
                product.run_on(self);
            }
        });
        Ok(())
    }
}

/// All rows times some panels.
struct FloatProduct<'a> {
    weights: &'a PackedWeights,
    x: &'a [f32],
    m: usize,
    panels: Range<usize>,
    epilogue: &'a Epilogue<'a>,
    target: Target<'a>,
    /// `p` and `y` of a block of rows.
    sums: &'a mut [f32],
}

impl<'a> FloatProduct<'a> {
    /// # Safety
    /// No other product that runs at the same time has one of these panels, and nothing else refers to the
    /// output meanwhile.
    unsafe fn new(
        weights: &'a PackedWeights,
        x: &'a [f32],
        m: usize,
        panels: Range<usize>,
        epilogue: &'a Epilogue<'a>,
        target: Target<'a>,
        sums: &'a mut [f32],
    ) -> Self {
        Self { weights, x, m, panels, epilogue, target, sums }
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

impl Operation for FloatProduct<'_> {
    type Output = ();

    /// Any number of rows.
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let sums = core::mem::take(&mut self.sums);
        // Aligned to cache lines, so that no vector crosses one.
        let start = sums.as_ptr().align_offset(4 * LINE).min(LINE);
        let sums = &mut sums[start..];
        let (p, y) = sums.split_at_mut(BLOCK_ROWS.min(self.m) * WIDEST);
        let (p, y) = (p.as_chunks_mut::<WIDEST>().0, y.as_chunks_mut::<WIDEST>().0);
        let mut piece = Piece([[0.0; WIDEST]; PIECE]);
        let mut room = from_fn(|_| UnpackedSteps::new());
        for first in self.panels.clone().step_by(group::<I>()) {
            let panels = first..self.panels.end.min(first + group::<I>());
            for start in (0..self.m).step_by(BLOCK_ROWS) {
                let rows = start..self.m.min(start + BLOCK_ROWS);
                let sums = (&mut p[..rows.len()], &mut y[..rows.len()]);
                let rooms = (&mut piece, &mut room);
                self.block::<I>(isa, panels.clone(), rows, sums, rooms);
            }
        }
    }
}

impl FloatProduct<'_> {
    #[inline(always)]
    fn block<I: Isa>(
        &self,
        isa: I,
        panels: Range<usize>,
        rows: Range<usize>,
        (p, y): (&mut [[f32; WIDEST]], &mut [[f32; WIDEST]]),
        (piece, room): (&mut Piece, &mut [UnpackedSteps<I>; MOST_PANELS]),
    ) {
        let segments = self.weights.segments();
        y.fill([0.0; WIDEST]);
        let mut first = 0;
        for segment in 0..segments {
            let range = self.weights.segment_range(segment);
            p.fill([0.0; WIDEST]);
            for k in range.clone().step_by(PIECE) {
                let ks = k..range.end.min(k + PIECE);
                let step = first + (k - range.start) / I::KR;
                for ((i, panel), room) in panels.clone().enumerate().zip(room.iter_mut()) {
                    let at = (panel, segment, step);
                    self.dequantize::<I>(isa, at, ks.len(), piece, i * I::NR, room);
                }
                self.multiply::<I>(isa, panels.len(), rows.clone(), ks, piece, p);
            }
            first += self.weights.steps[segment];
            for (i, panel) in panels.clone().enumerate() {
                let scales = self.weights.columns_of::<I>(panel, segment).scales;
                let (scales, at) = (&scales[..I::NR], i * I::NR);
                for (y, p) in y.iter_mut().zip(p.iter()) {
                    let (y, p) = (&mut y[at..][..I::NR], &p[at..][..I::NR]);
                    for j in 0..I::NR {
                        let scaled = p[j] * scales[j];
                        y[j] = if segments == 1 { scaled } else { y[j] + scaled };
                    }
                }
            }
        }
        for (i, panel) in panels.enumerate() {
            self.finish::<I>(panel, rows.clone(), y, i * I::NR);
        }
    }

    /// Whether codes have 4 bits, which are read as stored.
    #[inline(always)]
    fn packed_nibbles<I: Isa>(&self) -> bool {
        I::KR == 4 && self.weights.bits == 4
    }

    /// Writes `q - z` of a piece as floats, exactly, from column `at` on.
    #[inline(always)]
    fn dequantize<I: Isa>(
        &self,
        isa: I,
        (panel, segment, step): (usize, usize, usize),
        len: usize,
        piece: &mut Piece,
        at: usize,
        room: &mut UnpackedSteps<I>,
    ) {
        let steps = len.div_ceil(I::KR);
        if self.packed_nibbles::<I>() {
            // Each packed k-step holds two of four values.
            let packed = &self.weights.panel(panel)[step / 2..][..steps.div_ceil(2)];
            nibbles(isa, packed, piece, at);
        } else {
            bytes(isa, self.codes::<I>(panel, step, steps, room), piece, at);
        }
        if self.weights.has_zero_points() {
            let zeros = float_zeros(isa, self.weights, (panel, segment));
            for codes in piece.0.iter_mut().take(len) {
                for v in 0..2 {
                    let codes = &mut codes[at + v * I::LANES..][..I::LANES];
                    isa.store(isa.sub(isa.load(codes), zeros[v]), codes);
                }
            }
        }
    }

    /// K-steps of a panel, unpacked and in the order of K. `step` is the first k-step of a whole byte.
    #[inline(always)]
    fn codes<'b, I: Isa>(
        &'b self,
        panel: usize,
        step: usize,
        steps: usize,
        room: &'b mut UnpackedSteps<I>,
    ) -> &'b [I::KStep] {
        let codes: &[I::KStep] = self.weights.panel(panel);
        if const { I::PERMUTED } {
            let places = self.weights.permutations.places(panel);
            along_k::<I>(codes, places, step / 4, &mut room.steps[..steps.next_multiple_of(4)]);
        } else if const { I::KR == 2 } || self.weights.bits == 8 {
            return &codes[step..][..steps];
        } else {
            // Segments are padded to 8 k-steps, which are whole bytes.
            let bits = self.weights.bits;
            let packed = &codes[step * bits / 8..][..(steps * bits).div_ceil(8)];
            let (packed, out) =
                (bytemuck::cast_slice(packed), bytemuck::cast_slice_mut(&mut room.steps));
            self.weights.kernel.run(UnpackSteps { bits, packed, out });
        }
        &room.steps[..steps]
    }

    /// Adds the products of a piece of some panels to `p` of each row.
    #[inline(always)]
    fn multiply<I: Isa>(
        &self,
        isa: I,
        panels: usize,
        rows: Range<usize>,
        ks: Range<usize>,
        piece: &Piece,
        p: &mut [[f32; WIDEST]],
    ) {
        let tiling = Tiling::new(rows.len(), MR, 1);
        for tile in 0..tiling.tiles() {
            let tile = tiling.rows(tile);
            let p = &mut p[tile.clone()];
            let start = rows.start + tile.start;
            for panel in 0..panels {
                let at = panel * I::NR;
                match tile.len() {
                    1 => self.tile::<I, 1>(isa, start, ks.clone(), piece, p, at),
                    2 => self.tile::<I, 2>(isa, start, ks.clone(), piece, p, at),
                    3 => self.tile::<I, 3>(isa, start, ks.clone(), piece, p, at),
                    4 => self.tile::<I, 4>(isa, start, ks.clone(), piece, p, at),
                    5 => self.tile::<I, 5>(isa, start, ks.clone(), piece, p, at),
                    _ => self.tile::<I, MR>(isa, start, ks.clone(), piece, p, at),
                }
            }
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const R: usize>(
        &self,
        isa: I,
        start: usize,
        ks: Range<usize>,
        piece: &Piece,
        p: &mut [[f32; WIDEST]],
        at: usize,
    ) {
        let mut sums = [[isa.splat(0.0); 2]; R];
        let mut x = [&self.x[..0]; R];
        for r in 0..R {
            sums[r] = load(isa, &p[r][at..]);
            x[r] = &self.x[(start + r) * self.weights.k + ks.start..][..ks.len()];
        }
        for (k, lanes) in piece.0.iter().enumerate().take(ks.len()) {
            let weights = load(isa, &lanes[at..]);
            for r in 0..R {
                let x = isa.splat(x[r][k]);
                for v in 0..2 {
                    sums[r][v] = isa.fused(x, weights[v], sums[r][v]);
                }
            }
        }
        for r in 0..R {
            store(isa, sums[r], &mut p[r][at..]);
        }
    }

    /// Applies the epilogue to the columns of a panel, `y` from `at` on, and writes them.
    ///
    /// Out of line, because every number of rows would compile it again.
    #[inline(never)]
    fn finish<I: Isa>(&self, panel: usize, rows: Range<usize>, y: &mut [[f32; WIDEST]], at: usize) {
        let first = panel * I::NR;
        let count = I::NR.min(self.weights.n - first);
        for (row, y) in rows.zip(y) {
            let y = &mut y[at..][..I::NR];
            if let Some(bias) = self.epilogue.bias {
                for j in 0..count {
                    y[j] += bias[first + j];
                }
            }
            if self.epilogue.relu {
                for j in 0..I::NR {
                    y[j] = if y[j] > 0.0 { y[j] } else { 0.0 };
                }
            }
            let start = row * self.weights.n + first;
            match self.target {
                Target::F32(out) => write(&out, start, &y[..count]),
                Target::I8(out, affine) => {
                    let (mut values, mut codes) = ([0.0; WIDEST], [0; WIDEST]);
                    values[..I::NR].copy_from_slice(y);
                    self.weights.kernel.quantize_by(&values, affine, &mut codes);
                    write(&out, start, &codes[..count]);
                }
                Target::I32(_) => {}
            }
        }
    }
}

/// Panels that share a row of a piece.
const fn group<I: Isa>() -> usize {
    WIDEST / I::NR
}

/// The zero points of a panel.
#[inline(always)]
fn float_zeros<I: Isa>(
    isa: I,
    weights: &PackedWeights,
    (panel, segment): (usize, usize),
) -> [I::Floats; 2] {
    let zeros = weights.columns_of::<I>(panel, segment).zero_points;
    if zeros.is_empty() {
        return [isa.splat((weights.common_zero - weights.shift) as f32); 2];
    }
    let less = isa.splat_int(-weights.shift);
    [&zeros[..I::LANES], &zeros[I::LANES..I::NR]]
        .map(|zeros| isa.to_floats(isa.add_ints(isa.load_ints(zeros), less)))
}

/// Stores the result of a method for each value of a k-step.
macro_rules! store_each {
    ($($j:literal)+; $isa:ident.$method:ident($step:expr), |$k:ident| $out:expr, $at:ident) => {
        $({
            let $k = $j;
            let lanes = [$isa.lanes($step, 0), $isa.lanes($step, 1)];
            let floats = [$isa.$method::<$j>(lanes[0]), $isa.$method::<$j>(lanes[1])];
            store($isa, floats, &mut $out[$at..]);
        })+
    };
}

/// Converts packed 4-bit codes to floats.
#[inline(always)]
fn nibbles<I: Isa>(isa: I, packed: &[I::KStep], piece: &mut Piece, at: usize) {
    for (step, out) in packed.iter().zip(piece.0.as_chunks_mut::<8>().0) {
        store_each!(0 1 2 3 4 5 6 7; isa.nibble(step), |k| out[k], at);
    }
}

/// Converts 8-bit codes to floats.
#[inline(always)]
fn bytes<I: Isa>(isa: I, codes: &[I::KStep], piece: &mut Piece, at: usize) {
    for (step, out) in codes.iter().zip(piece.0.chunks_exact_mut(I::KR)) {
        store_each!(0 1; isa.byte(step), |k| out[k], at);
        if const { I::KR == 4 } {
            store_each!(2 3; isa.byte(step), |k| out[k], at);
        }
    }
}

/// Restores the order of K of permuted blocks from `first` on, byte by byte: weights for floats are packed
/// without a permutation.
#[inline(always)]
fn along_k<I: Isa>(
    codes: &[I::KStep],
    places: InversePermutation<'_>,
    first: usize,
    out: &mut [I::KStep],
) {
    let columns = I::NR;
    let codes: &[[i8; 4]] = bytemuck::cast_slice(codes);
    let out: &mut [[i8; 4]] = bytemuck::cast_slice_mut(out);
    for (b, out) in out.chunks_exact_mut(4 * columns).enumerate() {
        let codes = &codes[usize::from(places.blocks[first + b]) * 4 * columns..][..4 * columns];
        for (i, place) in places.positions[first + b].iter().enumerate() {
            let at = usize::from(place % NEGATED);
            for column in 0..columns {
                let code = codes[at / 4 * columns + column][at % 4];
                let negated = place / NEGATED == 1;
                out[i / 4 * columns + column][i % 4] = if negated { -code } else { code };
            }
        }
    }
}

#[inline(always)]
fn write<T: Copy>(out: &Shared<'_, T>, start: usize, values: &[T]) {
    // SAFETY: these places belong to one row and one panel, which no other product that runs at
    // the same time has (`FloatProduct::new`); the slice is gone before the next one is made.
    let out = unsafe { out.slice(start, values.len()) };
    out.copy_from_slice(values);
}
