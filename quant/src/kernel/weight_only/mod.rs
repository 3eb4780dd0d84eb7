//! Float activations times quantized weights (`docs/numerics.md`, rule 11).
//!
//! ```text
//! for block of K, ascending
//!   p = 0
//!   for k in block, ascending: p = p + x[m,k] · f32(q[n,k] - z[n])
//!   y = y + p · s[n]                      y = p · s[n] if there is one block
//! y = y + bias[n]
//! ```
//! Every operation is rounded on its own. The order is the same for each output, whatever the
//! instruction set, the number of rows or threads, because vectors run along N: a lane never meets
//! its neighbours.
//!
//! Codes are turned into floats piece by piece, [`PIECE`] of K for a panel, and the piece is used
//! by all rows; with up to four rows they are not even stored. The dequantized matrix never exists.

mod few;

use super::dispatch::{Kernel, Operation};
use super::error::LinearError;
use super::isa::Isa;
use super::linear::{Call, by_rows, length};
use super::order::{BLOCK, MIRRORED};
use super::output::{Epilogue, Output, Shared, Target};
use super::product::{self, WIDEST};
use super::rows::Tiling;
use super::threads::{Scratch, Shares, fork, grown};
use super::weights::PackedWeights;
use bytemuck::Zeroable;
use core::ops::Range;

/// Values along K in a piece: 64 · 32 columns · 4 B = 8 KiB of floats, a part of the first-level
/// cache.
const PIECE: usize = 64;

/// Rows of the tallest tile. Six rows of activations, which may all fall into the same set of a
/// first-level cache, still find room there (it has eight ways).
const ROWS: usize = 6;

/// Rows that use a piece together: their sums, 96 · 32 columns · 2 · 4 B = 24 KiB, stay in the
/// second-level cache.
const BLOCK_ROWS: usize = 96;

type Piece = [[f32; WIDEST]; PIECE];

/// Room for a piece of unpacked codes, up to 8 steps more than it has.
struct Rearranged<I: Isa> {
    steps: [I::Step; PIECE / 2 + 8],
}

impl<I: Isa> Rearranged<I> {
    #[inline(always)]
    fn new() -> Self {
        Self { steps: [I::Step::zeroed(); PIECE / 2 + 8] }
    }
}

impl Kernel {
    /// `x · wᵀ` for floats `x` `[m, k]` that stay floats.
    ///
    /// # Errors
    /// - the weights are packed for another kernel;
    /// - a slice has the wrong length;
    /// - integer sums are asked for.
    pub fn linear_weight_only(
        self,
        weights: &PackedWeights,
        x: &[f32],
        m: usize,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), LinearError> {
        let call = Call { kernel: self, weights, m, epilogue, strides: by_rows(weights.n) };
        call.check(&output)?;
        if matches!(output, Output::Sums(_)) {
            return Err(LinearError::NoIntegerSums);
        }
        length("activations", m * weights.k, x.len())?;
        length("output", m * weights.n, output.len())?;
        let target = Target::new(output);
        let count = scratch.workers_for(m * weights.n * weights.k);
        let shares = Shares::new(weights.panels(), count);
        fork(&mut scratch.workers[..count], &|worker| {
            while let Some(panels) = shares.next() {
                let sums = grown(&mut worker.floats, 2 * BLOCK_ROWS.min(m) * WIDEST, 0.0);
                // Shares have no panel in common, and the target is borrowed mutably for the whole
                // call: what `write` relies on.
                let product = FloatProduct { weights, x, m, panels, epilogue, target, sums };
                self.multiply(weights.arithmetic, product);
            }
        });
        Ok(())
    }
}

/// All rows times some panels. No other one that runs at the same time has a panel of these.
struct FloatProduct<'a> {
    weights: &'a PackedWeights,
    x: &'a [f32],
    m: usize,
    panels: Range<usize>,
    epilogue: &'a Epilogue<'a>,
    target: Target<'a>,
    /// `p` and then `y` of a block of rows.
    sums: &'a mut [f32],
}

impl Operation for FloatProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.m {
            1 => self.few::<I, 1>(isa),
            2 => self.few::<I, 2>(isa),
            3 => self.few::<I, 3>(isa),
            4 => self.few::<I, 4>(isa),
            _ => self.many::<I>(isa),
        }
    }
}

impl FloatProduct<'_> {
    #[inline(always)]
    fn many<I: Isa>(mut self, isa: I) {
        let sums = core::mem::take(&mut self.sums);
        let (p, y) = sums.split_at_mut(sums.len() / 2);
        let (p, y) = (p.as_chunks_mut::<WIDEST>().0, y.as_chunks_mut::<WIDEST>().0);
        let mut piece: Piece = [[0.0; WIDEST]; PIECE];
        let mut room = Rearranged::new();
        for panel in self.panels.clone() {
            for start in (0..self.m).step_by(BLOCK_ROWS) {
                let rows = start..self.m.min(start + BLOCK_ROWS);
                let (p, y) = (&mut p[..rows.len()], &mut y[..rows.len()]);
                self.block::<I>(isa, panel, rows.clone(), (p, &mut *y), &mut piece, &mut room);
                self.finish::<I>(isa, panel, rows, y);
            }
        }
    }

    #[inline(always)]
    fn block<I: Isa>(
        &self,
        isa: I,
        panel: usize,
        rows: Range<usize>,
        (p, y): (&mut [[f32; WIDEST]], &mut [[f32; WIDEST]]),
        piece: &mut Piece,
        room: &mut Rearranged<I>,
    ) {
        let segments = self.weights.segments();
        y.fill([0.0; WIDEST]);
        let mut first = 0;
        for segment in 0..segments {
            let range = self.weights.segment_range(segment);
            p.fill([0.0; WIDEST]);
            for k in range.clone().step_by(PIECE) {
                let ks = k..range.end.min(k + PIECE);
                let step = first + (k - range.start) / I::VALUES;
                self.dequantize::<I>(isa, (panel, segment, step), ks.len(), piece, room);
                self.multiply::<I>(isa, rows.clone(), ks, piece, p);
            }
            first += self.weights.steps[segment];
            let scales = self.weights.columns_of(panel, segment).scales;
            let scales = &scales[..I::COLUMNS];
            for (y, p) in y.iter_mut().zip(p.iter()) {
                for j in 0..I::COLUMNS {
                    let scaled = p[j] * scales[j];
                    y[j] = if segments == 1 { scaled } else { y[j] + scaled };
                }
            }
        }
    }

    /// `q - z` of a piece, as floats: exact.
    #[inline(always)]
    fn dequantize<I: Isa>(
        &self,
        isa: I,
        (panel, segment, step): (usize, usize, usize),
        len: usize,
        piece: &mut Piece,
        room: &mut Rearranged<I>,
    ) {
        let zeros = self.zeros::<I>(isa, panel, segment);
        if I::ORDERED {
            return self.dequantize_ordered::<I>(isa, panel, step / 4, len, piece);
        }
        let codes = self.codes::<I>(panel, step, len.div_ceil(I::VALUES), room);
        for v in 0..2 {
            let lanes = v * I::LANES..(v + 1) * I::LANES;
            for (codes, out) in codes.iter().zip(piece.chunks_exact_mut(I::VALUES)) {
                for j in 0..I::VALUES {
                    let weights = isa.code(zeros[v], isa.lanes(codes, v), j);
                    isa.store(weights, &mut out[j][lanes.clone()]);
                }
            }
        }
    }

    /// The same where codes are in an [`order`](super::order), from block `first` of K on.
    #[inline(always)]
    fn dequantize_ordered<I: Isa>(
        &self,
        isa: I,
        panel: usize,
        first: usize,
        len: usize,
        piece: &mut Piece,
    ) {
        let places = self.weights.orders.places(panel);
        let blocks = self.weights.panel::<I::Step>(panel).as_chunks::<4>().0;
        let zeros = self.signed_zeros::<I>(isa, panel);
        for (b, out) in piece.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            if b * BLOCK >= len {
                return;
            }
            let codes = &blocks[usize::from(places.blocks[first + b])];
            for (out, place) in out.iter_mut().zip(places.positions[first + b]) {
                let at = usize::from(place % MIRRORED) % BLOCK;
                let mirrored = usize::from(place / MIRRORED) % 2;
                let weights = code_at(isa, zeros[mirrored], &codes[at / 4], at % 4);
                let sign = isa.splat([1.0, -1.0][mirrored]);
                isa.store(isa.mul(weights[0], sign), &mut out[..I::LANES]);
                isa.store(isa.mul(weights[1], sign), &mut out[I::LANES..I::COLUMNS]);
            }
        }
    }

    /// The zero points of a panel, and their negatives for mirrored codes: `-(-q - -z) = q - z`.
    #[inline(always)]
    fn signed_zeros<I: Isa>(&self, isa: I, panel: usize) -> [[I::Zeros; 2]; 2] {
        let mut negatives = [0; WIDEST];
        for (to, zero) in negatives.iter_mut().zip(self.weights.columns_of(panel, 0).zeros) {
            *to = -zero;
        }
        let negatives =
            [isa.zeros(&negatives[..I::LANES]), isa.zeros(&negatives[I::LANES..I::COLUMNS])];
        [self.zeros::<I>(isa, panel, 0), negatives]
    }

    /// Steps of a panel: unpacked if they are packed, `step` being the first of a whole byte.
    #[inline(always)]
    fn codes<'b, I: Isa>(
        &'b self,
        panel: usize,
        step: usize,
        steps: usize,
        room: &'b mut Rearranged<I>,
    ) -> &'b [I::Step] {
        let codes: &[I::Step] = self.weights.panel(panel);
        let per_byte = 8 / self.weights.bits;
        if per_byte == 1 {
            return &codes[step..][..steps];
        }
        // Segments are filled up to 8 steps, which are whole bytes.
        let packed = &codes[step / per_byte..][..steps.div_ceil(per_byte)];
        product::unpack::<I>(self.weights.bits, packed, &mut room.steps);
        &room.steps[..steps]
    }

    /// The zero points of a panel.
    #[inline(always)]
    fn zeros<I: Isa>(&self, isa: I, panel: usize, segment: usize) -> [I::Zeros; 2] {
        let mut zeros = [0; WIDEST];
        let columns = self.weights.columns_of(panel, segment);
        zeros[..columns.zeros.len()].copy_from_slice(columns.zeros);
        [isa.zeros(&zeros[..I::LANES]), isa.zeros(&zeros[I::LANES..I::COLUMNS])]
    }

    /// Adds a piece's products to `p` of each row.
    #[inline(always)]
    fn multiply<I: Isa>(
        &self,
        isa: I,
        rows: Range<usize>,
        ks: Range<usize>,
        piece: &Piece,
        p: &mut [[f32; WIDEST]],
    ) {
        let tiling = Tiling::new(rows.len(), ROWS);
        for tile in 0..tiling.tiles() {
            let tile = tiling.rows(tile);
            let p = &mut p[tile.clone()];
            let start = rows.start + tile.start;
            match tile.len() {
                1 => self.tile::<I, 1>(isa, start, ks.clone(), piece, p),
                2 => self.tile::<I, 2>(isa, start, ks.clone(), piece, p),
                3 => self.tile::<I, 3>(isa, start, ks.clone(), piece, p),
                4 => self.tile::<I, 4>(isa, start, ks.clone(), piece, p),
                5 => self.tile::<I, 5>(isa, start, ks.clone(), piece, p),
                _ => self.tile::<I, ROWS>(isa, start, ks.clone(), piece, p),
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
    ) {
        let mut sums = [[isa.splat(0.0); 2]; R];
        let mut x = [&self.x[..0]; R];
        for r in 0..R {
            sums[r][0] = isa.load(&p[r][..I::LANES]);
            sums[r][1] = isa.load(&p[r][I::LANES..I::COLUMNS]);
            x[r] = &self.x[(start + r) * self.weights.k + ks.start..][..ks.len()];
        }
        for (k, lanes) in piece.iter().enumerate().take(ks.len()) {
            let weights = [isa.load(&lanes[..I::LANES]), isa.load(&lanes[I::LANES..I::COLUMNS])];
            for r in 0..R {
                let x = isa.splat(x[r][k]);
                for v in 0..2 {
                    sums[r][v] = isa.add(sums[r][v], isa.mul(x, weights[v]));
                }
            }
        }
        for r in 0..R {
            isa.store(sums[r][0], &mut p[r][..I::LANES]);
            isa.store(sums[r][1], &mut p[r][I::LANES..I::COLUMNS]);
        }
    }

    #[inline(always)]
    fn finish<I: Isa>(&self, isa: I, panel: usize, rows: Range<usize>, y: &mut [[f32; WIDEST]]) {
        let first = panel * I::COLUMNS;
        let count = I::COLUMNS.min(self.weights.n - first);
        for (row, y) in rows.zip(y) {
            if let Some(bias) = self.epilogue.bias {
                for j in 0..count {
                    y[j] += bias[first + j];
                }
            }
            if self.epilogue.relu {
                for j in 0..I::COLUMNS {
                    y[j] = if y[j] > 0.0 { y[j] } else { 0.0 };
                }
            }
            let start = row * self.weights.n + first;
            match self.target {
                Target::F32(out) => write(&out, start, &y[..count]),
                Target::I8(out, affine) => {
                    let mut codes = [0; WIDEST];
                    affine.codes(isa, y, &mut codes);
                    write(&out, start, &codes[..count]);
                }
                Target::Sums(_) => {}
            }
        }
    }
}

/// `q - z` of value `j` along K of a step.
#[inline(always)]
fn code_at<I: Isa>(isa: I, zeros: [I::Zeros; 2], step: &I::Step, j: usize) -> [I::Floats; 2] {
    [isa.code(zeros[0], isa.lanes(step, 0), j), isa.code(zeros[1], isa.lanes(step, 1), j)]
}

#[inline(always)]
fn write<T: Copy>(out: &Shared<'_, T>, start: usize, values: &[T]) {
    // SAFETY: these places belong to one row and one panel, which no other product that runs at
    // the same time has (see `FloatProduct`); the slice is gone before the next one is made.
    let out = unsafe { out.slice(start, values.len()) };
    out.copy_from_slice(values);
}
