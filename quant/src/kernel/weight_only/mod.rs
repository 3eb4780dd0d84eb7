//! Float activations times quantized weights (`docs/numerics.md`, rule 11).
//!
//! ```text
//! for block of K, ascending
//!   p = 0
//!   for k in block, ascending: p = fma(x[m,k], f32(q[n,k] - z[n]), p)
//!   y = y + p · s[n]                      y = p · s[n] if there is one block
//! y = y + bias[n]
//! ```
//! `fma` is rounded once, as is every other operation. The order is the same for each output, whatever the
//! instruction set, the number of rows or threads, because vectors run along N: a lane never meets
//! its neighbours.
//!
//! Codes are turned into floats piece by piece, [`PIECE`] of K for a panel, and the piece is used
//! by all rows; with few rows they are not even stored. The dequantized matrix never exists.

mod few;

use super::dispatch::{Kernel, Operation};
use super::error::LinearError;
use super::isa::{Isa, Line};
use super::linear::{Call, by_rows, length};
use super::order::BLOCK;
use super::output::{Epilogue, Output, Shared, Target};
use super::product::{self, WIDEST};
use super::rows::Tiling;
use super::threads::{Scratch, Shares, fork, grown};
use super::weights::{Columns, PackedWeights};
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

/// Room for a piece of codes that are not as they are stored: unpacked, up to 8 steps more than it
/// has, or joined with their remainders.
struct Rearranged<I: Isa> {
    steps: [I::Step; PIECE / 2 + 8],
    /// The remainder that comes next.
    place: usize,
}

impl<I: Isa> Rearranged<I> {
    #[inline(always)]
    fn new() -> Self {
        Self { steps: [I::Step::zeroed(); PIECE / 2 + 8], place: 0 }
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
            1 => self.few::<I, 1, 4>(isa),
            2 => self.few::<I, 2, 2>(isa),
            3 => self.few::<I, 3, 1>(isa),
            4 => self.few::<I, 4, 1>(isa),
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
                self.finish::<I>(panel, rows, y);
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
        let steps = len.div_ceil(I::VALUES);
        if self.weights.bits == 4 && I::VALUES == 4 {
            // Two steps of four values in each packed one.
            let packed = &self.weights.panel(panel)[step / 2..][..steps.div_ceil(2)];
            nibbles(isa, packed, piece);
        } else {
            let codes = self.codes::<I>(panel, step, steps, room);
            if I::ORDERED {
                ordered(isa, codes, &self.weights.orders(panel)[step / Line::STEPS], piece);
            } else {
                bytes(isa, codes, piece);
            }
        }
        if self.weights.has_zeros() {
            let zeros = float_zeros(isa, self.weights.columns_of(panel, segment));
            for codes in piece.iter_mut().take(len) {
                for v in 0..2 {
                    let codes = &mut codes[v * I::LANES..(v + 1) * I::LANES];
                    isa.store(isa.sub(isa.load(codes), zeros[v]), codes);
                }
            }
        }
    }

    /// Steps of a panel: unpacked if they are packed, `step` being the first of a whole byte; and
    /// with the remainders that were split off.
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
            let codes = &codes[step..];
            if !I::ORDERED {
                return &codes[..steps];
            }
            let codes = &codes[..codes.len().min(Line::STEPS)];
            let remainders = &self.weights.remainders;
            if !remainders.some(panel) {
                return codes;
            }
            let order = &self.weights.orders(panel)[step / Line::STEPS];
            let whole = &mut room.steps[..codes.len()];
            whole.copy_from_slice(codes);
            let bytes = bytemuck::cast_slice_mut(whole);
            remainders.put_back(panel, step, &mut room.place, order, bytes);
            return whole;
        }
        // Segments are filled up to 8 steps, which are whole bytes.
        let packed = &codes[step / per_byte..][..steps.div_ceil(per_byte)];
        product::unpack::<I>(self.weights.bits, packed, &mut room.steps);
        &room.steps[..steps]
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
                    sums[r][v] = isa.fused(x, weights[v], sums[r][v]);
                }
            }
        }
        for r in 0..R {
            isa.store(sums[r][0], &mut p[r][..I::LANES]);
            isa.store(sums[r][1], &mut p[r][I::LANES..I::COLUMNS]);
        }
    }

    #[inline(always)]
    fn finish<I: Isa>(&self, panel: usize, rows: Range<usize>, y: &mut [[f32; WIDEST]]) {
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
                    affine.codes(y, &mut codes);
                    write(&out, start, &codes[..count]);
                }
                Target::Sums(_) => {}
            }
        }
    }
}

/// The zero points of a panel.
#[inline(always)]
fn float_zeros<I: Isa>(isa: I, columns: Columns<'_>) -> [I::Floats; 2] {
    let zeros = columns.zeros;
    [&zeros[..I::LANES], &zeros[I::LANES..I::COLUMNS]]
        .map(|zeros| isa.to_floats(isa.load_sums(zeros)))
}

/// Calls a method for each value of a step, which it is compiled for, and stores what it returns.
macro_rules! store_each {
    ($($j:literal)+; $isa:ident.$method:ident($step:expr), $out:expr) => {
        $(
            $isa.store($isa.$method::<$j>($isa.lanes($step, 0)), &mut $out[$j][..I::LANES]);
            $isa.store($isa.$method::<$j>($isa.lanes($step, 1)), &mut $out[$j][I::LANES..I::COLUMNS]);
        )+
    };
}

/// Packed codes of 4 bits as floats.
#[inline(always)]
fn nibbles<I: Isa>(isa: I, packed: &[I::Step], piece: &mut Piece) {
    for (step, out) in packed.iter().zip(piece.as_chunks_mut::<8>().0) {
        store_each!(0 1 2 3 4 5 6 7; isa.nibble(step), out);
    }
}

/// Codes of a byte as floats.
#[inline(always)]
fn bytes<I: Isa>(isa: I, codes: &[I::Step], piece: &mut Piece) {
    for (step, out) in codes.iter().zip(piece.chunks_exact_mut(I::VALUES)) {
        store_each!(0 1; isa.byte(step), out);
        if I::VALUES == 4 {
            store_each!(2 3; isa.byte(step), out);
        }
    }
}

/// Codes of a byte that are in an [`order`](super::order) as floats that are not.
#[inline(always)]
fn ordered<I: Isa>(isa: I, codes: &[I::Step], order: &Line, piece: &mut Piece) {
    let orders = order.bytes().as_chunks::<BLOCK>().0;
    let blocks = codes.as_chunks::<4>().0.iter().zip(orders);
    for ((codes, order), out) in blocks.zip(piece.chunks_exact_mut(BLOCK)) {
        for i in 0..BLOCK {
            let at = usize::from(order[i]) % BLOCK;
            let step = &codes[at / 4];
            isa.store(isa.code(isa.lanes(step, 0), at % 4), &mut out[i][..I::LANES]);
            isa.store(isa.code(isa.lanes(step, 1), at % 4), &mut out[i][I::LANES..I::COLUMNS]);
        }
    }
}

#[inline(always)]
fn write<T: Copy>(out: &Shared<'_, T>, start: usize, values: &[T]) {
    // SAFETY: these places belong to one row and one panel, which no other product that runs at
    // the same time has (see `FloatProduct`); the slice is gone before the next one is made.
    let out = unsafe { out.slice(start, values.len()) };
    out.copy_from_slice(values);
}
