//! The microkernel of integer products: tiles of rows times panels.
//!
//! ```text
//! for tile, panel
//!   for unit                              a segment of weights, or a shorter block of activations
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
use crate::pack::b::ColumnWords;
use crate::pack::source::Row;
use crate::pack::units::{HALF_LINE, Unit};
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
    /// One for all units, or one for each.
    rows: &'a [[Row; R]],
    /// For each unit, a value per row; so `row_init`. Either may be empty.
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

/// The parameters of a panel, cut out once for all units.
#[derive(Clone, Copy)]
struct Parameters<'a> {
    /// `[segment]`
    words: &'a [i32],
    of: ColumnWords,
    /// Words of a segment.
    each: usize,
    /// `[unit][column]`; empty if no activation has a zero point.
    offsets: &'a [i32],
    /// `[unit][column]`; may be empty.
    init: &'a [i32],
    /// The first of the zero points among the words of a segment; 0 if there are none.
    zero_points: usize,
    /// So of the minimums.
    minimums: usize,
}

impl<'a> Parameters<'a> {
    #[inline(always)]
    fn new<I: Isa>(block: &'a Block<'_>, panel: usize) -> Self {
        let (weights, units) = (block.weights, block.units);
        let (segments, of) = (weights.segments(), ColumnWords { nr: I::NR, ..weights.words });
        let each = of.count();
        let of_units = |all: &'a [i32]| {
            let len = units.count() * I::NR;
            if all.is_empty() { all } else { &all[panel * len..][..len] }
        };
        Self {
            words: &weights.parameters[panel * segments * each..][..segments * each],
            of,
            each,
            offsets: if block.packed_a.symmetric { &[] } else { of_units(&units.offsets) },
            init: of_units(&units.init),
            zero_points: if of.zero_points { of.zero_points_at() } else { 0 },
            minimums: if of.minimums { of.minimums_at() } else { 0 },
        }
    }
}

impl<'a, const R: usize, const PACKED: bool> Tile<'a, R, PACKED> {
    #[inline(always)]
    fn new(block: &'a Block<'a>, first: usize) -> Self {
        let PackedA { first: before, lines, rows, row_sums, row_init, .. } = block.packed_a;
        let (start, units) = (first - before, block.units.count());
        let per_row = block.units.lines;
        let of_rows = |all: &'a [i32]| {
            let all = if all.is_empty() { all } else { &all[start * units..][..R * units] };
            all.as_chunks().0
        };
        let each = if block.packed_a.blocks { units } else { 1 };
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
            rows: rows[start * each..][..R * each].as_chunks().0,
            row_sums: of_rows(row_sums),
            row_init: of_rows(row_init),
        }
    }

    /// Writes the outputs of a panel.
    #[inline(always)]
    fn multiply<I: Isa>(&self, isa: I, panel: Panel<'_, I::KStep>, Parts(parts): &mut Parts<R>) {
        let (weights, units) = (self.block.weights, self.block.units);
        let of = Parameters::new::<I>(self.block, panel.number);
        let mut all = &units.all[..];
        let blocks = weights.block.is_some() || self.block.packed_a.blocks;
        // Permuted codes have one unit.
        let summed = !I::PERMUTED && (blocks || weights.words.minimums);
        if summed {
            // The sum starts from 0 also if it has one term, which makes -0 of a negative scale 0.
            parts.fill([0.0; WIDEST]);
        }
        let mut values = [[isa.splat(0.0); 2]; R];
        // Codes that no kernel multiplies as stored are unpacked before.
        let as_stored = const { !I::PERMUTED && (!PACKED || I::UNPACK_ABOVE > 0) };
        if as_stored && units.half_lines {
            self.half_lines::<I>(isa, panel, of, parts);
            for r in 0..R {
                values[r] = load(isa, &parts[r]);
            }
            all = &[];
        }
        for (u, unit) in all.iter().enumerate() {
            let mut acc = [[isa.zero(); 2]; R];
            self.initialize::<I>(isa, &mut acc, of, u, unit.segment);
            self.accumulate::<I>(isa, &mut acc, panel, unit);
            if let Target::I32(out) = self.block.target {
                return self.write_accumulators::<I>(isa, &out, panel.number, &acc);
            }
            values = self.unit_values::<I>(isa, of, (u, unit.segment), acc);
            if summed {
                add_to_parts(isa, &mut values, parts);
            }
        }
        if let Target::I32(out) = self.block.target {
            // K is 0.
            return self.write_accumulators::<I>(isa, &out, panel.number, &[[isa.zero(); 2]; R]);
        }
        self.finish::<I>(isa, panel.number, values);
    }

    /// Adds the products of units of half a line. The loop has few instructions besides those of the products.
    #[inline(always)]
    fn half_lines<I: Isa>(
        &self,
        isa: I,
        panel: Panel<'_, I::KStep>,
        of: Parameters<'_>,
        parts: &mut [[f32; WIDEST]; R],
    ) {
        let codes = panel.steps.chunks_exact(if PACKED { HALF_LINE / 2 } else { HALF_LINE });
        for ((u, unit), b) in self.block.units.all.iter().enumerate().zip(codes) {
            let at = u * HALF_LINE;
            let Some(a) = self.lines.get(at / Line::STEPS) else { break };
            let first = at % Line::STEPS;
            let mut acc = [[isa.zero(); 2]; R];
            if !I::FROM_ZERO {
                self.initialize::<I>(isa, &mut acc, of, u, unit.segment);
            }
            if PACKED && let Some(b) = b.first_chunk() {
                isa.accumulate_half_packed::<R>(&mut acc, a, first, b);
            }
            if !PACKED && let Some(b) = b.first_chunk() {
                isa.accumulate_half::<R>(&mut acc, a, first, b);
            }
            if I::FROM_ZERO {
                self.initialize::<I>(isa, &mut acc, of, u, unit.segment);
            }
            let mut values = self.unit_values::<I>(isa, of, (u, unit.segment), acc);
            add_to_parts(isa, &mut values, parts);
        }
    }

    /// The scaled accumulators of a unit.
    #[inline(always)]
    fn unit_values<I: Isa>(
        &self,
        isa: I,
        of: Parameters<'_>,
        (unit, segment): (usize, usize),
        acc: [[I::Ints; 2]; R],
    ) -> [[I::Floats; 2]; R] {
        let words = &of.words[segment * of.each..][..of.each];
        let mut values = self.scaled::<I>(isa, acc, of.of.load(isa, words), unit);
        if of.minimums != 0 {
            let minimums = of.of.load(isa, &words[of.minimums..]);
            self.add_minimums::<I>(isa, &mut values, minimums, unit);
        }
        values
    }

    /// The parameters of the rows in a unit.
    #[inline(always)]
    fn rows_of(&self, unit: usize) -> &[Row; R] {
        &self.rows[if self.block.packed_a.blocks { unit } else { 0 }]
    }

    /// Adds `Σ a · code` over a unit, with the terms that [`Isa::WINOGRAD`] and [`Isa::UNSIGNED_BITS`] describe.
    #[inline(always)]
    fn accumulate<I: Isa>(
        &self,
        isa: I,
        acc: &mut [[I::Ints; 2]; R],
        panel: Panel<'_, I::KStep>,
        unit: &Unit,
    ) {
        if const { I::PERMUTED } {
            let order = self.block.weights.permutations.of(panel.number);
            return isa.accumulate_permuted::<R>(acc, self.lines, panel.steps, order);
        }
        let bits = self.block.weights.bits;
        let per_byte = if PACKED { 8 / bits } else { 1 };
        let steps = &panel.steps[unit.steps.start / per_byte..unit.steps.end / per_byte];
        let lines = &self.lines[unit.at / Line::STEPS..];
        for (a, b) in lines.iter().zip(steps.chunks(Line::STEPS / per_byte)) {
            self.accumulate_line::<I>(isa, acc, a, b);
        }
    }

    /// Adds the products of a line.
    #[inline(always)]
    fn accumulate_line<I: Isa>(
        &self,
        isa: I,
        acc: &mut [[I::Ints; 2]; R],
        a: &[Line; R],
        b: &[I::KStep],
    ) {
        if !PACKED {
            return isa.accumulate::<R>(acc, a, 0, b);
        }
        let bits = self.block.weights.bits;
        if const { I::UNPACK_ABOVE > 0 } && bits == 4 {
            return isa.accumulate_packed::<R>(acc, a, 0, b);
        }
        if const { R > FEW_ROWS } {
            unreachable!("panels of more rows are unpacked first");
        }
        let mut piece = [I::KStep::zeroed(); Line::STEPS];
        let piece = &mut piece[..b.len() * 8 / bits];
        unpack_steps::<I>(self.block.weights, b, piece);
        isa.accumulate::<R>(acc, a, 0, piece);
    }

    /// Zero-point compensation: adds the difference of `Σ (a - za) · (code - zw)` and `Σ a · code`. Accumulators
    /// start with it, since adding it at the end would extend the chain of dependent operations.
    #[inline(always)]
    fn initialize<I: Isa>(
        &self,
        isa: I,
        acc: &mut [[I::Ints; 2]; R],
        of: Parameters<'_>,
        unit: usize,
        segment: usize,
    ) {
        let columns = unit * I::NR..(unit + 1) * I::NR;
        if !of.init.is_empty() {
            let init = load_ints(isa, &of.init[columns.clone()]);
            for r in 0..R {
                for v in 0..2 {
                    acc[r][v] = isa.add_ints(acc[r][v], init[v]);
                }
            }
        }
        if !self.row_init.is_empty() {
            let init = &self.row_init[unit];
            for r in 0..R {
                let start = isa.splat_int(init[r]);
                for v in 0..2 {
                    acc[r][v] = isa.add_ints(acc[r][v], start);
                }
            }
        }
        if !of.offsets.is_empty() {
            let (offsets, rows) = (load_ints(isa, &of.offsets[columns]), self.rows_of(unit));
            for r in 0..R {
                let zero = isa.splat_int(rows[r].zero);
                for v in 0..2 {
                    acc[r][v] = isa.subtract_product(acc[r][v], zero, offsets[v]);
                }
            }
        }
        if of.zero_points != 0 {
            let zero_points = &of.words[segment * of.each + of.zero_points..];
            let (zero_points, row_sums) = (load_ints(isa, zero_points), &self.row_sums[unit]);
            for r in 0..R {
                let sum = isa.splat_int(row_sums[r]);
                for v in 0..2 {
                    acc[r][v] = isa.subtract_product(acc[r][v], sum, zero_points[v]);
                }
            }
        }
    }

    /// `f32(acc) * (sa * sw)`.
    #[inline(always)]
    fn scaled<I: Isa>(
        &self,
        isa: I,
        acc: [[I::Ints; 2]; R],
        scales: [I::Floats; 2],
        unit: usize,
    ) -> [[I::Floats; 2]; R] {
        let rows = self.rows_of(unit);
        let mut values = [[isa.splat(0.0); 2]; R];
        for r in 0..R {
            let scale = isa.splat(rows[r].scale);
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
        minimums: [I::Floats; 2],
        unit: usize,
    ) {
        let (sums, rows) = (&self.row_sums[unit], self.rows_of(unit));
        for r in 0..R {
            let (scale, sum) = (isa.splat(rows[r].scale), isa.splat(sums[r] as f32));
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

/// Adds values to the outputs so far, which are in memory: the accumulators take the registers.
#[inline(always)]
fn add_to_parts<I: Isa, const R: usize>(
    isa: I,
    values: &mut [[I::Floats; 2]; R],
    parts: &mut [[f32; WIDEST]; R],
) {
    for r in 0..R {
        values[r] = add(isa, load(isa, &parts[r]), values[r]);
        store(isa, values[r], &mut parts[r]);
    }
}
