//! The integer product (`docs/numerics.md`, rule 6): tiles of rows against panels of weights.
//!
//! ```text
//! for some panels                     they stay in the second-level cache
//!   for tile                          up to ROWS rows
//!     for panel                       COLUMNS outputs, all of K
//!       for segment
//!         sums = what is known before ROWS · COLUMNS sums in registers
//!         for line, step              one broadcast per row, two loads of codes
//!           sums += activations · codes
//!         outputs from sums, scales
//! ```
//! K is not cut further: a panel is read once per tile, COLUMNS · K bytes for ROWS · COLUMNS · K
//! products, which every cache delivers in time; in return, sums never leave the registers.

use super::dispatch::Operation;
use super::isa::{Isa, Line};
use super::output::{Epilogue, Shared, Strides, Target};
use super::rows::{Row, Tiling};
use super::weights::{Columns, PackedWeights};
use bytemuck::Pod;
use core::ops::Range;

/// Columns of the widest panel.
pub(super) const WIDEST: usize = 32;

/// Rows of the tallest tile of any instruction set.
const TALLEST: usize = 12;

/// The most rows, of one tile, for which codes are unpacked piece by piece in the cache, where that is
/// not done in registers: once for a panel, it takes as long as the products of one row.
const FEW_ROWS: usize = 8;

/// Some tiles times some panels.
pub(super) struct Product<'a> {
    weights: &'a PackedWeights,
    tiling: Tiling,
    tiles: Range<usize>,
    panels: Range<usize>,
    prepared: Prepared<'a>,
    epilogue: Epilogue<'a>,
    target: Target<'a>,
    strides: Strides,
    /// Room for a panel of unpacked codes.
    unpacked: &'a mut [Line],
}

/// Rows as [`Prepare`](super::rows::Prepare) left them.
#[derive(Clone, Copy)]
pub(super) struct Prepared<'a> {
    /// The row that comes first.
    pub(super) first: usize,
    pub(super) lines: &'a [Line],
    pub(super) rows: &'a [Row],
    pub(super) sums: &'a [i32],
    pub(super) starts: &'a [i32],
}

/// The whole product that parts are taken of.
#[derive(Clone, Copy)]
pub(super) struct Whole<'a> {
    pub(super) weights: &'a PackedWeights,
    pub(super) tiling: Tiling,
    pub(super) epilogue: Epilogue<'a>,
    pub(super) target: Target<'a>,
    pub(super) strides: Strides,
}

impl<'a> Whole<'a> {
    /// The part for some tiles and panels.
    ///
    /// # Safety
    /// - No other part that runs at the same time has both a tile and a panel in common with this
    ///   one, and nothing else refers to the output meanwhile.
    /// - Different elements of the product have different places under `strides`.
    pub(super) unsafe fn part(
        &self,
        tiles: Range<usize>,
        panels: Range<usize>,
        prepared: Prepared<'a>,
        unpacked: &'a mut [Line],
    ) -> Product<'a> {
        let Self { weights, tiling, epilogue, target, strides } = *self;
        Product { weights, tiling, tiles, panels, prepared, epilogue, target, strides, unpacked }
    }
}

impl Operation for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        self.panels_times_tiles::<I>(isa);
    }
}

/// One tile times one panel.
struct Tile<'a, T> {
    product: &'a Product<'a>,
    panel: usize,
    /// Packed, or unpacked already.
    steps: &'a [T],
    packed: bool,
    rows: Range<usize>,
    lines: &'a [Line],
}

/// The outputs of a tile's blocks so far.
type Parts = [[f32; WIDEST]; TALLEST];

/// Bytes of panels that a tile is multiplied with before the next tile is: more of an output's row is
/// written at a time, and a tile is read less often. They are half of what a small second-level cache
/// has left beside prepared rows.
const PANEL_BYTES: usize = 128 << 10;

impl Product<'_> {
    #[inline(always)]
    fn panels_times_tiles<I: Isa>(mut self, isa: I) {
        let rows = self.prepared.rows.len();
        let ahead = match self.weights.bits {
            8 => false,
            4 if I::UNPACKS > 0 => rows > I::UNPACKS,
            _ => rows > FEW_ROWS || self.tiles.len() > 1,
        };
        let room = bytemuck::cast_slice_mut(core::mem::take(&mut self.unpacked));
        let mut parts = [[0.0; WIDEST]; TALLEST];
        if ahead {
            for panel in self.panels.clone() {
                let unpacked = Some(self.unpacked::<I>(panel, room));
                self.tiles::<I>(isa, panel..panel + 1, unpacked, &mut parts);
            }
            return;
        }
        let together = (PANEL_BYTES / self.weights.panel_bytes.max(1)).max(1);
        for panel in self.panels.clone().step_by(together) {
            let panels = panel..self.panels.end.min(panel + together);
            self.tiles::<I>(isa, panels, None, &mut parts);
        }
    }

    #[inline(always)]
    fn unpacked<'a, I: Isa>(&self, panel: usize, room: &'a mut [I::Step]) -> &'a [I::Step] {
        let steps: &[I::Step] = self.weights.panel(panel);
        let room = &mut room[..steps.len() * (8 / self.weights.bits)];
        self.unpack::<I>(steps, room);
        room
    }

    /// Unpacks steps into what is multiplied.
    #[inline(always)]
    fn unpack<I: Isa>(&self, packed: &[I::Step], out: &mut [I::Step]) {
        let half = if I::UNSIGNED_CODES { 0 } else { self.weights.half() };
        unpack::<I>(self.weights.bits, packed, out, half);
    }

    /// All tiles times some panels; of the steps of one of them, if they are unpacked already.
    #[inline(always)]
    fn tiles<I: Isa>(
        &self,
        isa: I,
        panels: Range<usize>,
        unpacked: Option<&[I::Step]>,
        parts: &mut Parts,
    ) {
        let packed = self.weights.bits < 8 && unpacked.is_none();
        let per_row = self.weights.lines();
        for tile in self.tiles.clone() {
            let rows = self.tiling.rows(tile);
            let lines = &self.prepared.lines[(rows.start - self.prepared.first) * per_row..]
                [..rows.len() * per_row];
            for panel in panels.clone() {
                let steps = unpacked.unwrap_or_else(|| self.weights.panel(panel));
                let rows = rows.clone();
                let tile = Tile { product: self, panel, steps, packed, rows, lines };
                tile.run_rows::<I>(isa, parts);
            }
        }
    }
}

impl<T: Pod> Tile<'_, T> {
    /// A tile of every height has code of its own, with all sums in registers.
    #[inline(always)]
    fn run_rows<I: Isa<Step = T>>(&self, isa: I, parts: &mut Parts) {
        macro_rules! heights {
            ($($height:literal)+) => {
                match self.rows.len() {
                    // The comparison is known when compiled: taller ones than the instruction
                    // set's tallest are left out.
                    $($height if $height <= I::ROWS => self.run::<I, $height>(isa, parts),)+
                    _ => unreachable!("tiles are at most {} rows", I::ROWS),
                }
            };
        }
        heights!(1 2 3 4 5 6 7 8 9 10 11 12);
    }

    #[inline(always)]
    fn run<I: Isa<Step = T>, const R: usize>(&self, isa: I, parts: &mut Parts) {
        let weights = self.product.weights;
        let (lines, _) = self.lines.as_chunks::<R>();
        let (mut step, mut line, segments) = (0, 0, weights.segments());
        if segments != 1 {
            parts.fill([0.0; WIDEST]);
        }
        for segment in 0..segments {
            let steps = weights.steps[segment];
            let count = steps.div_ceil(Line::STEPS);
            let lines = &lines[line..line + count];
            let columns = weights.columns_of(self.panel, segment);
            let mut sums = self.without_zeros::<I, R>(isa, columns, segment);
            self.accumulate::<I, R>(isa, &mut sums, lines, step..step + steps);
            if let Target::Sums(out) = self.product.target {
                return self.write_sums::<I, R>(isa, &out, &sums);
            }
            let mut values = self.scaled::<I, R>(isa, sums, columns);
            if segments == 1 {
                return self.finish::<I, R>(isa, values);
            }
            // In memory, because registers have no room for them beside the sums.
            for r in 0..R {
                values[r] = add(isa, load(isa, &parts[r]), values[r]);
                store(isa, values[r], &mut parts[r]);
            }
            (step, line) = (step + steps, line + count);
        }
        if let Target::Sums(out) = self.product.target {
            // There are no inputs.
            return self.write_sums::<I, R>(isa, &out, &[[isa.zero(); 2]; R]);
        }
        let mut values = [[isa.splat(0.0); 2]; R];
        for r in 0..R {
            values[r] = load(isa, &parts[r]);
        }
        self.finish::<I, R>(isa, values);
    }

    /// Adds `Σ a · code` over a segment, and what goes with it: see [`Isa::BASES`], [`Isa::CROSSES`] and
    /// [`Isa::UNSIGNED_CODES`].
    #[inline(always)]
    fn accumulate<I: Isa<Step = T>, const R: usize>(
        &self,
        isa: I,
        sums: &mut [[I::Sums; 2]; R],
        lines: &[[Line; R]],
        steps: Range<usize>,
    ) {
        if self.packed && (R <= FEW_ROWS || I::UNPACKS > 0) {
            self.packed_sums::<I, R>(isa, sums, lines, steps);
        } else if I::ORDERED {
            let order = self.product.weights.orders.of(self.panel);
            isa.accumulate_ordered::<R>(sums, lines, self.steps, order);
        } else {
            for (a, b) in lines.iter().zip(self.steps[steps].chunks(Line::STEPS)) {
                isa.accumulate::<R>(sums, a, b);
            }
        }
    }

    /// Adds the products of packed codes, which are unpacked on the way.
    #[inline(always)]
    fn packed_sums<I: Isa<Step = T>, const R: usize>(
        &self,
        isa: I,
        sums: &mut [[I::Sums; 2]; R],
        lines: &[[Line; R]],
        steps: Range<usize>,
    ) {
        let bits = self.product.weights.bits;
        let per_byte = 8 / bits;
        let steps = &self.steps[steps.start / per_byte..steps.end / per_byte];
        let steps = lines.iter().zip(steps.chunks(Line::STEPS / per_byte));
        if bits == 4 && I::UNPACKS > 0 {
            for (a, b) in steps {
                isa.accumulate_packed::<R>(sums, a, b);
            }
            return;
        }
        let mut piece = [I::Step::zeroed(); Line::STEPS];
        for (a, b) in steps {
            let piece = &mut piece[..b.len() * per_byte];
            self.product.unpack::<I>(b, piece);
            isa.accumulate::<R>(sums, a, piece);
        }
    }

    /// Of what is known of rows or of their segments, `each` for a row, that of the rows of the tile.
    #[inline(always)]
    fn of_rows<'b, V>(&self, all: &'b [V], each: usize) -> &'b [V] {
        let first = self.rows.start - self.product.prepared.first;
        &all[first * each..][..self.rows.len() * each]
    }

    /// What `Σ (a - za) · (code - zw)` has beside `Σ a · code`. Sums start with it, because whoever
    /// adds it at the end waits for it.
    #[inline(always)]
    fn without_zeros<I: Isa, const R: usize>(
        &self,
        isa: I,
        columns: Columns<'_>,
        segment: usize,
    ) -> [[I::Sums; 2]; R] {
        let Prepared { rows, sums: row_sums, starts, .. } = self.product.prepared;
        let segments = self.product.weights.segments();
        let mut sums = [[isa.zero(); 2]; R];
        if I::BASES {
            sums = [load_sums(isa, columns.bases); R];
        }
        if I::ROW_STARTS {
            let starts = self.of_rows(starts, segments).chunks_exact(segments);
            for (sums, starts) in sums.iter_mut().zip(starts) {
                let start = isa.splat_sum(starts[segment]);
                for v in 0..2 {
                    sums[v] = isa.add_sums(sums[v], start);
                }
            }
        }
        let terms = load_sums(isa, columns.terms);
        for (sums, row) in sums.iter_mut().zip(self.of_rows(rows, 1)) {
            let zero = isa.splat_sum(row.zero);
            for v in 0..2 {
                sums[v] = isa.subtract_product(sums[v], zero, terms[v]);
            }
        }
        if !columns.zeros.is_empty() {
            let zeros = load_sums(isa, columns.zeros);
            let row_sums = self.of_rows(row_sums, segments).chunks_exact(segments);
            for (sums, row_sums) in sums.iter_mut().zip(row_sums) {
                let sum = isa.splat_sum(row_sums[segment]);
                for v in 0..2 {
                    sums[v] = isa.subtract_product(sums[v], sum, zeros[v]);
                }
            }
        }
        sums
    }

    /// `f32(sum) * (sa * sw)`.
    #[inline(always)]
    fn scaled<I: Isa, const R: usize>(
        &self,
        isa: I,
        sums: [[I::Sums; 2]; R],
        columns: Columns<'_>,
    ) -> [[I::Floats; 2]; R] {
        let scales = load(isa, columns.scales);
        let mut values = [[isa.splat(0.0); 2]; R];
        let rows = self.of_rows(self.product.prepared.rows, 1);
        for ((values, sums), row) in values.iter_mut().zip(sums).zip(rows) {
            let scale = isa.splat(row.scale);
            for v in 0..2 {
                let scale = isa.mul(scale, scales[v]);
                values[v] = isa.mul(isa.to_floats(sums[v]), scale);
            }
        }
        values
    }

    #[inline(always)]
    fn finish<I: Isa, const R: usize>(&self, isa: I, mut values: [[I::Floats; 2]; R]) {
        let Epilogue { bias, relu } = self.product.epilogue;
        if let Some(bias) = bias {
            let first = self.panel * I::COLUMNS;
            let mut lanes = [0.0; WIDEST];
            let bias = &bias[first..bias.len().min(first + I::COLUMNS)];
            lanes[..bias.len()].copy_from_slice(bias);
            let bias = load(isa, &lanes);
            for r in 0..R {
                values[r] = add(isa, values[r], bias);
            }
        }
        if relu {
            for r in 0..R {
                values[r] = [isa.relu(values[r][0]), isa.relu(values[r][1])];
            }
        }
        if let (Target::F32(out), true) = (self.product.target, self.whole_rows::<I>()) {
            for r in 0..R {
                // SAFETY: as in `write`.
                let out = unsafe { out.slice(self.place(r, 0, I::COLUMNS), I::COLUMNS) };
                store(isa, values[r], out);
            }
            return;
        }
        let mut lanes = [[0.0; WIDEST]; R];
        for r in 0..R {
            store(isa, values[r], &mut lanes[r]);
        }
        match self.product.target {
            Target::F32(out) => self.write(&out, &lanes, I::COLUMNS),
            Target::I8(out, affine) => {
                let mut codes = [[0; WIDEST]; R];
                for r in 0..R {
                    affine.codes(isa, &lanes[r], &mut codes[r]);
                }
                self.write(&out, &codes, I::COLUMNS);
            }
            Target::Sums(_) => {}
        }
    }

    /// Where the output of row `r` and column `j` of the tile is, in panels of so many columns.
    #[inline(always)]
    fn place(&self, r: usize, j: usize, columns: usize) -> usize {
        let Strides { row, column } = self.product.strides;
        (self.rows.start + r) * row + (self.panel * columns + j) * column
    }

    /// Whether the columns of a row are all there and neighbours.
    #[inline(always)]
    fn whole_rows<I: Isa>(&self) -> bool {
        let last = (self.panel + 1) * I::COLUMNS;
        self.product.strides.column == 1 && last <= self.product.weights.n
    }

    #[inline(always)]
    fn write_sums<I: Isa, const R: usize>(
        &self,
        isa: I,
        out: &Shared<'_, i32>,
        sums: &[[I::Sums; 2]; R],
    ) {
        let mut lanes = [[0; WIDEST]; R];
        for r in 0..R {
            isa.store_sums(sums[r][0], &mut lanes[r][..I::LANES]);
            isa.store_sums(sums[r][1], &mut lanes[r][I::LANES..I::COLUMNS]);
        }
        self.write(out, &lanes, I::COLUMNS);
    }

    /// Writes the tile, without the columns that only fill up the last panel: neighbours together,
    /// which are those of a row in a matrix, and those of a column in an image.
    ///
    /// A function of its own: it does nothing that an instruction set would do better, and the tiles
    /// that do not need it are smaller without it.
    #[inline(never)]
    fn write<E: Copy>(&self, out: &Shared<'_, E>, lanes: &[[E; WIDEST]], columns: usize) {
        let count = columns.min(self.product.weights.n - self.panel * columns);
        if self.product.strides.column == 1 {
            for (r, lanes) in lanes.iter().enumerate() {
                // SAFETY: these are places of this tile and this panel, which no other part has
                // (`Whole::part`), and the slice is gone before the next one is made.
                let out = unsafe { out.slice(self.place(r, 0, columns), count) };
                out.copy_from_slice(&lanes[..count]);
            }
            return;
        }
        for j in 0..count {
            // SAFETY: as above; rows are neighbours where columns are not (`Strides`).
            let out = unsafe { out.slice(self.place(0, j, columns), lanes.len()) };
            for (out, lanes) in out.iter_mut().zip(lanes) {
                *out = lanes[j];
            }
        }
    }
}

/// A number for each column of a panel.
#[inline(always)]
fn load_sums<I: Isa>(isa: I, lanes: &[i32]) -> [I::Sums; 2] {
    let lanes = halves(lanes, I::LANES);
    [isa.load_sums(lanes[0]), isa.load_sums(lanes[1])]
}

/// The parts for the two vectors of a panel.
#[inline(always)]
fn halves<T>(lanes: &[T], each: usize) -> [&[T]; 2] {
    [&lanes[..each], &lanes[each..2 * each]]
}

/// A value for each column of a panel.
#[inline(always)]
pub(super) fn load<I: Isa>(isa: I, lanes: &[f32]) -> [I::Floats; 2] {
    let lanes = halves(lanes, I::LANES);
    [isa.load(lanes[0]), isa.load(lanes[1])]
}

#[inline(always)]
pub(super) fn store<I: Isa>(isa: I, values: [I::Floats; 2], lanes: &mut [f32]) {
    isa.store(values[0], &mut lanes[..I::LANES]);
    isa.store(values[1], &mut lanes[I::LANES..I::COLUMNS]);
}

#[inline(always)]
fn add<I: Isa>(isa: I, a: [I::Floats; 2], b: [I::Floats; 2]) -> [I::Floats; 2] {
    [isa.add(a[0], b[0]), isa.add(a[1], b[1])]
}

/// Unpacks steps: each holds `8 / BITS` of them, the first in the low bits, as `code + half`, and gives
/// them less `half`, or less 0.
#[inline(always)]
pub(super) fn unpack<I: Isa>(bits: usize, packed: &[I::Step], out: &mut [I::Step], half: u8) {
    match bits {
        4 => unpack_bits::<I, 4>(packed, out, half),
        _ => unpack_bits::<I, 2>(packed, out, half),
    }
}

#[inline(always)]
fn unpack_bits<I: Isa, const BITS: usize>(packed: &[I::Step], out: &mut [I::Step], half: u8) {
    let mask = ((1u16 << BITS) - 1) as u8;
    for (packed, out) in packed.iter().zip(out.chunks_exact_mut(8 / BITS)) {
        let packed = &bytemuck::bytes_of(packed)[..size_of::<I::Step>()];
        for (j, out) in out.iter_mut().enumerate() {
            let out = &mut bytemuck::bytes_of_mut(out)[..size_of::<I::Step>()];
            for i in 0..size_of::<I::Step>() {
                out[i] = (packed[i] >> (j * BITS) & mask).wrapping_sub(half);
            }
        }
    }
}
