//! The microkernel of integer products: tiles of rows times panels.
//!
//! ```text
//! for tile, panel
//!   for segment
//!     acc = row and column offsets        MR · NR accumulators in registers
//!     for line, k-step                    a broadcast per row, two loads of codes
//!       acc += activations · codes
//!     outputs from acc, scales
//! ```
//! Each number of rows, with packed codes or without, has a function of its own, with few live values
//! besides one loop and its accumulators. In a larger function, the compiler (of Rust 1.95) leaves
//! accumulators in memory. For the same reason loops over rows use indices, over arrays of a length known
//! at compile time: they are unrolled, and every accumulator has a constant index.
//!
//! With K of a few hundred, the code around the loop takes a visible share of the time. So everything that
//! does not depend on the panel, including the bounds of the output, is computed once per tile.

use super::block::{Block, FEW_ROWS, PackedA};
use super::tile_output::write;
use crate::gemm::epilogue::{Epilogue, Target};
use crate::gemm::shared::{Shared, SharedRows};
use crate::isa::Operation;
use crate::isa::lanes::{WIDEST, add, load, load_ints, store};
use crate::isa::{Isa, Line};
use crate::pack::b::Columns;
use crate::pack::source::Row;
use crate::pack::unpack::unpack_steps;
use bytemuck::Zeroable;
use core::ops::Range;

/// Tiles of `R` rows times panels, whose codes are packed or not.
pub(crate) struct Microkernel<'a, const R: usize, const PACKED: bool> {
    pub(crate) block: &'a Block<'a>,
    pub(crate) tiles: Range<usize>,
    pub(crate) panels: Range<usize>,
    /// The codes of the only panel, if it is unpacked already.
    pub(crate) unpacked: Option<&'a [Line]>,
}

impl<const R: usize, const PACKED: bool> Operation for Microkernel<'_, R, PACKED> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // A `const` block, so that instances that never run are not compiled.
        if const { R > I::MR || PACKED && (I::KR != 4 || I::PERMUTED) } {
            unreachable!("tiles are at most {} rows, and only few bits are packed", I::MR);
        }
        let Self { block, tiles, panels, unpacked } = self;
        let mut parts = Parts([[0.0; WIDEST]; R]);
        // Keeps them in memory, where they force the alignment of the stack.
        core::hint::black_box(&mut parts);
        for tile in tiles {
            let tile = Tile::<R, PACKED>::new(block, block.tiling.rows(tile).start);
            for number in panels.clone() {
                let steps = match unpacked {
                    Some(unpacked) => bytemuck::cast_slice(unpacked),
                    None => block.weights.panel(number),
                };
                tile.multiply::<I>(isa, Panel { number, steps }, &mut parts);
            }
        }
    }
}

/// The outputs of a panel, summed over its segments so far. The alignment makes the compiler align the
/// stack, and with it every spilled vector: up to 2 % of the time of a block.
#[repr(align(64))]
struct Parts<const R: usize>([[f32; WIDEST]; R]);

/// A tile of rows.
struct Tile<'a, const R: usize, const PACKED: bool> {
    block: &'a Block<'a>,
    /// The first row.
    first: usize,
    lines: &'a [[Line; R]],
    rows: &'a [Row; R],
    /// For each segment, a value per row; so `row_init`. Either may be empty.
    row_sums: &'a [[i32; R]],
    row_init: &'a [[i32; R]],
    /// The rows of the output, if it holds floats and the columns of a row are contiguous.
    out: Option<SharedRows<'a, f32>>,
}

/// A panel.
#[derive(Clone, Copy)]
struct Panel<'a, T> {
    number: usize,
    /// As stored, or unpacked.
    steps: &'a [T],
}

impl<'a, const R: usize, const PACKED: bool> Tile<'a, R, PACKED> {
    #[inline(always)]
    fn new(block: &'a Block<'a>, first: usize) -> Self {
        let PackedA { first: before, lines, rows, row_sums, row_init } = block.packed_a;
        let (start, segments) = (first - before, block.weights.segments());
        let per_row = block.weights.lines;
        let of_rows = |all: &'a [i32]| {
            let all = if all.is_empty() { all } else { &all[start * segments..][..R * segments] };
            all.as_chunks().0
        };
        let Block { target, strides, .. } = block;
        let out = match target {
            Target::F32(out) if strides.column == 1 => {
                Some(out.rows(strides.place(first, 0), strides.row, R, block.weights.n))
            }
            _ => None,
        };
        Self {
            block,
            first,
            out,
            lines: lines[start * per_row..][..R * per_row].as_chunks().0,
            rows: &rows[start..][..R].as_chunks().0[0],
            row_sums: of_rows(row_sums),
            row_init: of_rows(row_init),
        }
    }

    /// Writes the outputs of a panel.
    #[inline(always)]
    fn multiply<I: Isa>(&self, isa: I, panel: Panel<'_, I::KStep>, Parts(parts): &mut Parts<R>) {
        let weights = self.block.weights;
        // Permuted codes have one segment.
        let segments = if I::PERMUTED { 1 } else { weights.segments() };
        let (mut step, mut line) = (0, 0);
        let one = segments == 1 && !weights.words.minimums;
        if !one {
            parts.fill([0.0; WIDEST]);
        }
        for segment in 0..segments {
            let steps = weights.steps[segment];
            let count = steps.div_ceil(Line::STEPS);
            let lines = &self.lines[line..line + count];
            let columns = weights.columns_of::<I>(panel.number, segment);
            let mut acc = self.initial_accumulators::<I>(isa, columns, segment);
            self.accumulate::<I>(isa, &mut acc, panel, lines, step..step + steps);
            if let Target::I32(out) = self.block.target {
                return self.write_accumulators::<I>(isa, &out, panel.number, &acc);
            }
            let mut values = self.scaled::<I>(isa, acc, columns);
            if one {
                return self.finish::<I>(isa, panel.number, values);
            }
            if !columns.minimums.is_empty() {
                self.add_minimums::<I>(isa, &mut values, columns, segment);
            }
            // In memory: the accumulators take the registers.
            for r in 0..R {
                values[r] = add(isa, load(isa, &parts[r]), values[r]);
                store(isa, values[r], &mut parts[r]);
            }
            (step, line) = (step + steps, line + count);
        }
        if let Target::I32(out) = self.block.target {
            // K is 0.
            return self.write_accumulators::<I>(isa, &out, panel.number, &[[isa.zero(); 2]; R]);
        }
        let mut values = [[isa.splat(0.0); 2]; R];
        for r in 0..R {
            values[r] = load(isa, &parts[r]);
        }
        self.finish::<I>(isa, panel.number, values);
    }

    /// Adds `Σ a · code` over a segment, with the terms that [`Isa::COLUMN_INIT`], [`Isa::WINOGRAD`] and
    /// [`Isa::UNSIGNED_CODES`] describe.
    #[inline(always)]
    fn accumulate<I: Isa>(
        &self,
        isa: I,
        acc: &mut [[I::Ints; 2]; R],
        panel: Panel<'_, I::KStep>,
        lines: &[[Line; R]],
        steps: Range<usize>,
    ) {
        if PACKED {
            self.accumulate_packed::<I>(isa, acc, panel, lines, steps);
        } else if const { I::PERMUTED } {
            let order = self.block.weights.permutations.of(panel.number);
            isa.accumulate_permuted::<R>(acc, lines, panel.steps, order);
        } else {
            for (a, b) in lines.iter().zip(panel.steps[steps].chunks(Line::STEPS)) {
                isa.accumulate::<R>(acc, a, b);
            }
        }
    }

    /// Adds the products of packed codes, which are unpacked on the fly.
    #[inline(always)]
    fn accumulate_packed<I: Isa>(
        &self,
        isa: I,
        acc: &mut [[I::Ints; 2]; R],
        panel: Panel<'_, I::KStep>,
        lines: &[[Line; R]],
        steps: Range<usize>,
    ) {
        let bits = self.block.weights.bits;
        if const { I::UNPACK_ABOVE > 0 } && bits == 4 {
            let steps = &panel.steps[steps.start / 2..steps.end / 2];
            for (a, b) in lines.iter().zip(steps.chunks(Line::STEPS / 2)) {
                isa.accumulate_packed::<R>(acc, a, b);
            }
            return;
        }
        if const { R > FEW_ROWS } {
            unreachable!("panels of more rows are unpacked first");
        }
        let per_byte = 8 / bits;
        let steps = &panel.steps[steps.start / per_byte..steps.end / per_byte];
        let steps = lines.iter().zip(steps.chunks(Line::STEPS / per_byte));
        let mut piece = [I::KStep::zeroed(); Line::STEPS];
        for (a, b) in steps {
            let piece = &mut piece[..b.len() * per_byte];
            unpack_steps::<I>(self.block.weights, b, piece);
            isa.accumulate::<R>(acc, a, piece);
        }
    }

    /// Zero-point compensation: the difference of `Σ (a - za) · (code - zw)` and `Σ a · code`. Accumulators
    /// start with it, since adding it at the end would extend the chain of dependent operations.
    #[inline(always)]
    fn initial_accumulators<I: Isa>(
        &self,
        isa: I,
        columns: Columns<'_>,
        segment: usize,
    ) -> [[I::Ints; 2]; R] {
        let mut acc = [[isa.zero(); 2]; R];
        if I::COLUMN_INIT {
            acc = [load_ints(isa, columns.column_init); R];
        }
        if !self.row_init.is_empty() {
            let init = &self.row_init[segment];
            for r in 0..R {
                let start = isa.splat_int(init[r]);
                for v in 0..2 {
                    acc[r][v] = isa.add_ints(acc[r][v], start);
                }
            }
        }
        let offsets = load_ints(isa, columns.column_offsets);
        for r in 0..R {
            let zero = isa.splat_int(self.rows[r].zero);
            for v in 0..2 {
                acc[r][v] = isa.subtract_product(acc[r][v], zero, offsets[v]);
            }
        }
        if !columns.zero_points.is_empty() {
            let (zero_points, row_sums) =
                (load_ints(isa, columns.zero_points), &self.row_sums[segment]);
            for r in 0..R {
                let sum = isa.splat_int(row_sums[r]);
                for v in 0..2 {
                    acc[r][v] = isa.subtract_product(acc[r][v], sum, zero_points[v]);
                }
            }
        }
        acc
    }

    /// `f32(acc) * (sa * sw)`.
    #[inline(always)]
    fn scaled<I: Isa>(
        &self,
        isa: I,
        acc: [[I::Ints; 2]; R],
        columns: Columns<'_>,
    ) -> [[I::Floats; 2]; R] {
        let scales = load(isa, columns.scales);
        let mut values = [[isa.splat(0.0); 2]; R];
        for r in 0..R {
            let scale = isa.splat(self.rows[r].scale);
            for v in 0..2 {
                let scale = isa.mul(scale, scales[v]);
                values[r][v] = isa.mul(isa.to_floats(acc[r][v]), scale);
            }
        }
        values
    }

    /// Adds `f32(Σ (a - za)) * (sa * m)` (rule 13).
    #[inline(always)]
    fn add_minimums<I: Isa>(
        &self,
        isa: I,
        values: &mut [[I::Floats; 2]; R],
        columns: Columns<'_>,
        segment: usize,
    ) {
        let (minimums, sums) = (load(isa, columns.minimums), &self.row_sums[segment]);
        for r in 0..R {
            let (scale, sum) = (isa.splat(self.rows[r].scale), isa.splat(sums[r] as f32));
            for v in 0..2 {
                let term = isa.mul(sum, isa.mul(scale, minimums[v]));
                values[r][v] = isa.add(values[r][v], term);
            }
        }
    }

    /// Applies the epilogue and writes outputs.
    #[inline(always)]
    fn finish<I: Isa>(&self, isa: I, panel: usize, mut values: [[I::Floats; 2]; R]) {
        let Epilogue { bias, relu } = self.block.epilogue;
        let columns = panel * I::NR..(panel + 1) * I::NR;
        if let Some(bias) = bias {
            let bias = match bias.get(columns.clone()) {
                Some(bias) => load(isa, bias),
                None => {
                    let (mut lanes, bias) = ([0.0; WIDEST], &bias[columns.start..]);
                    lanes[..bias.len()].copy_from_slice(bias);
                    load(isa, &lanes)
                }
            };
            for r in 0..R {
                values[r] = add(isa, values[r], bias);
            }
        }
        if relu {
            for r in 0..R {
                values[r] = [isa.relu(values[r][0]), isa.relu(values[r][1])];
            }
        }
        if let Some(out) = &self.out
            && columns.end <= self.block.weights.n
        {
            for r in 0..R {
                // SAFETY: these are places of this tile and this panel, which no other block has
                // (`Gemm::block`), and the slice is gone before the next one is made.
                store(isa, values[r], unsafe { out.columns(r, columns.clone()) });
            }
            return;
        }
        let mut lanes = [[0.0; WIDEST]; R];
        for r in 0..R {
            store(isa, values[r], &mut lanes[r]);
        }
        match self.block.target {
            Target::F32(out) => write(self.block, &out, &lanes, (self.first, panel)),
            Target::I8(out, affine) => {
                // Not shared by tiles of all heights: a call would take as long as the work.
                let mut codes = [[0; WIDEST]; R];
                for r in 0..R {
                    affine.codes(isa, &lanes[r], &mut codes[r]);
                }
                write(self.block, &out, &codes, (self.first, panel));
            }
            Target::I32(_) => {}
        }
    }

    #[inline(always)]
    fn write_accumulators<I: Isa>(
        &self,
        isa: I,
        out: &Shared<'_, i32>,
        panel: usize,
        acc: &[[I::Ints; 2]; R],
    ) {
        let mut lanes = [[0; WIDEST]; R];
        for r in 0..R {
            isa.store_ints(acc[r][0], &mut lanes[r][..I::LANES]);
            isa.store_ints(acc[r][1], &mut lanes[r][I::LANES..I::NR]);
        }
        write(self.block, out, &lanes, (self.first, panel));
    }
}
