//! Writes the panels of packed weights; [`b`](super::b) describes their layout.

use super::b::{ColumnWords, PackedWeights, Serves};
use super::permutation::{BlockPermutation, Permutations};
use super::quads;
use super::units::{UnitShape, Units};
use super::weights::{Codes, Weights, block_of, check, unpack_row};
use crate::dispatch::{Arithmetic, Kernel};
use crate::error::PackError;
use crate::isa::permuted::{BLOCK, NEGATED};
use crate::isa::{Isa, Line, Operation};
use crate::scheme::{
    ActivationMapping, DynamicGranularity, DynamicQuantization, Granularity, f16_to_f32, f32_to_f16,
};
use alloc::vec;
use alloc::vec::Vec;

impl PackedWeights {
    /// Packs weights for a kernel.
    ///
    /// # Errors
    /// - A slice does not have the length that the shape requires.
    /// - Channels are not along axis 0.
    /// - `k` is so large that an accumulator could overflow i32 (rule 6): the longest segment times 255 times
    ///   the largest `|code - zero point|`.
    pub fn new(kernel: Kernel, weights: &Weights<'_>) -> Result<Self, PackError> {
        let segment = check(weights)?;
        let layout = Layout { segment, block: None, serves: Serves::All };
        Ok(pack(kernel, arithmetic(kernel, weights, segment), weights, layout))
    }

    /// Packs weights for a kernel and for activations that are quantized so
    /// ([`Activations::Dynamic`](crate::Activations::Dynamic)).
    ///
    /// [`PackedWeights::new`] serves all activations but those in blocks that are shorter than the blocks of the
    /// weights. These weights take less memory if the mapping is symmetric, and then serve no activations with zero
    /// points.
    ///
    /// # Errors
    /// As [`PackedWeights::new`]; and the weights have blocks whose length is not a multiple of that of the
    /// activations.
    pub fn for_dynamic(
        kernel: Kernel,
        weights: &Weights<'_>,
        quantization: DynamicQuantization,
    ) -> Result<Self, PackError> {
        let segment = check(weights)?;
        let serves = match quantization.mapping {
            ActivationMapping::Affine => Serves::All,
            ActivationMapping::Symmetric => Serves::NoZeroPoints,
        };
        let DynamicGranularity::Block(block) = quantization.granularity else {
            let arithmetic = arithmetic(kernel, weights, segment);
            return Ok(pack(kernel, arithmetic, weights, Layout { segment, block: None, serves }));
        };
        let activations = block.get() as usize;
        match block_of(weights) {
            Some(weights) if !weights.is_multiple_of(activations) => {
                return Err(PackError::BlockLengths { weights, activations });
            }
            _ => {}
        }
        // A permutation exceeds blocks.
        let layout = Layout { segment, block: Some(activations), serves };
        Ok(pack(kernel, in_order(weights), weights, layout))
    }

    /// Packs weights for a kernel and for activations that stay floats,
    /// [`Activations::Float`](crate::Activations::Float).
    ///
    /// Integer products refuse them.
    ///
    /// # Errors
    /// As [`PackedWeights::new`].
    pub fn for_floats(kernel: Kernel, weights: &Weights<'_>) -> Result<Self, PackError> {
        let layout = Layout { segment: check(weights)?, block: None, serves: Serves::Floats };
        Ok(pack(kernel, in_order(weights), weights, layout))
    }
}

/// What is packed besides the codes.
#[derive(Clone, Copy)]
struct Layout {
    /// The length of a segment.
    segment: usize,
    /// The length of the blocks of activations.
    block: Option<usize>,
    serves: Serves,
}

/// The arithmetic of codes that are not permuted.
fn in_order(weights: &Weights<'_>) -> Arithmetic {
    match weights.codes {
        Codes::Packed(..) => Arithmetic::SubByte,
        Codes::Bytes(_) => Arithmetic::FullRange,
    }
}

/// The constants of an instruction set that the layout depends on.
struct PanelShape {
    kr: usize,
    nr: usize,
    mr: usize,
    gemv_rows: usize,
    unpack_above: usize,
    widen_above: usize,
    group: usize,
    winograd: bool,
    unsigned_bits: &'static [usize],
    signed_activations: bool,
}

struct PanelShapeOf;

impl Operation for PanelShapeOf {
    type Output = PanelShape;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> PanelShape {
        PanelShape {
            kr: I::KR,
            nr: I::NR,
            mr: I::MR,
            gemv_rows: I::GEMV_ROWS,
            unpack_above: I::UNPACK_ABOVE,
            widen_above: I::WIDEN_ABOVE,
            group: I::GROUP,
            winograd: I::WINOGRAD,
            unsigned_bits: I::UNSIGNED_BITS,
            signed_activations: I::SIGNED_ACTIVATIONS,
        }
    }
}

fn arithmetic(kernel: Kernel, weights: &Weights<'_>, segment: usize) -> Arithmetic {
    match weights.codes {
        Codes::Packed(..) => Arithmetic::SubByte,
        Codes::Bytes(codes) => {
            let whole = weights.k > 0 && segment >= weights.k;
            if whole && kernel.permutes() && quads::pays(kernel, codes, weights.n, weights.k) {
                Arithmetic::Permuted
            } else {
                Arithmetic::FullRange
            }
        }
    }
}

fn pack(
    kernel: Kernel,
    arithmetic: Arithmetic,
    weights: &Weights<'_>,
    Layout { segment, block, serves }: Layout,
) -> PackedWeights {
    let PanelShape {
        kr,
        nr,
        mr,
        gemv_rows,
        unpack_above,
        widen_above,
        group,
        winograd,
        unsigned_bits,
        signed_activations,
    } = kernel.multiply(arithmetic, PanelShapeOf);
    let &Weights { n, k, codes, .. } = weights;
    // Every kernel multiplies packed codes 8 k-steps at a time.
    let (bits, group, unpack_above) = match codes {
        Codes::Packed(width, _) => (width.bits(), 8, unpack_above),
        Codes::Bytes(_) => (8, group, widen_above),
    };
    // Without rows, nothing bounds `k`, and nothing is stored.
    let (k_of_rows, segments) = if n == 0 { (0, 0) } else { (k, k.div_ceil(segment)) };
    let steps: Vec<usize> = (0..segments)
        .map(|s| segment.min(k_of_rows - s * segment).div_ceil(kr).next_multiple_of(group))
        .collect();
    let panels = n.div_ceil(nr);
    let panel_bytes = steps.iter().sum::<usize>() * nr * kr * bits / 8;
    let mut data = vec![Line::ZERO; (panels * panel_bytes).div_ceil(size_of::<Line>())];
    let zeros = weights.zero_points;
    let zero_points = zeros.iter().any(|zero| *zero != zeros[0]);
    let halves = segments > 1 && [weights.scales, weights.minimums].iter().all(|of| are_halves(of));
    let words = ColumnWords { nr, halves, zero_points, minimums: !weights.minimums.is_empty() };
    let zero = zeros.first().map_or(0, |zero| i32::from(*zero));
    let shift = if unsigned_bits.contains(&bits) { 1 << (bits - 1) } else { 0 };
    let common_zero = if zero_points { 0 } else { zero + shift };
    let shape = UnitShape {
        k: k_of_rows,
        segment,
        steps: &steps,
        kr,
        group,
        columns: if segments == 0 { 0 } else { panels * nr },
        offsets: serves == Serves::All,
        init: shift == 0 && !signed_activations && serves != Serves::Floats,
    };
    let mut packed = PackedWeights {
        block: block_of(weights),
        segment_units: Units::new(&shape, segment),
        block_units: block.filter(|len| *len < segment).map(|len| Units::new(&shape, len)),
        kernel,
        arithmetic,
        n,
        k,
        segment,
        bits,
        nr,
        mr,
        gemv_rows,
        unpack_above,
        data: Vec::new(),
        panel_bytes,
        permutations: Permutations::new(steps.iter().sum::<usize>() * kr / BLOCK),
        steps,
        parameters: vec![0; panels * segments * words.count()],
        words,
        serves,
        shift,
        common_zero,
        row_init: winograd || common_zero != 0,
    };
    let blocks = packed.permutations.blocks();
    let permutations = match (codes, arithmetic) {
        (Codes::Bytes(codes), Arithmetic::Permuted) => {
            quads::arrange(kernel, codes, (n, k), blocks)
        }
        _ => Vec::new(),
    };
    if panels == 0 {
        return packed;
    }
    let mut rows = PanelRows::new(&packed, kr);
    for (panel, bytes) in
        bytemuck::cast_slice_mut(&mut data).chunks_exact_mut(panel_bytes.max(1)).enumerate()
    {
        rows.read(weights, &mut packed, panel);
        match arithmetic {
            Arithmetic::Permuted => {
                let permutations = &permutations[panel * blocks..][..blocks];
                rows.permute(&mut packed, panel, permutations);
            }
            Arithmetic::FullRange if winograd && serves != Serves::Floats => {
                let PackedWeights { segment_units, block_units, .. } = &mut packed;
                for units in core::iter::once(segment_units).chain(block_units) {
                    rows.sum_of_products((kr, nr), units, panel);
                }
            }
            _ => {}
        }
        rows.write(bits, kr, nr, bytes);
    }
    packed.data = data;
    packed
}

/// The codes of a panel, a row per column, with segments padded to whole k-steps.
struct PanelRows {
    codes: Vec<i8>,
    /// The distance of rows, which is not a multiple of the distance at which cache sets repeat: the rows are
    /// read side by side.
    stride: usize,
    /// A row of codes.
    row: Vec<i8>,
    /// The start of each segment.
    offsets: Vec<usize>,
    len: usize,
}

impl PanelRows {
    fn new(packed: &PackedWeights, kr: usize) -> Self {
        let mut len = 0;
        let mut offsets = Vec::with_capacity(packed.steps.len());
        for steps in &packed.steps {
            offsets.push(len);
            len += steps * kr;
        }
        let stride = len.next_multiple_of(64) + 64;
        let (codes, row) = (vec![0; stride * packed.nr], vec![0; packed.k]);
        Self { codes, stride, row, offsets, len }
    }

    fn read(&mut self, weights: &Weights<'_>, packed: &mut PackedWeights, panel: usize) {
        let first = panel * packed.nr;
        for (at, to) in self.codes.chunks_exact_mut(self.stride).enumerate() {
            to.fill(0);
            if first + at >= weights.n {
                continue;
            }
            unpack_row(weights, first + at, &mut self.row);
            packed.set_parameters(weights, first + at, &self.row);
            for (start, codes) in self.offsets.iter().zip(self.row.chunks(packed.segment)) {
                to[*start..][..codes.len()].copy_from_slice(codes);
            }
        }
    }

    /// Permutes codes, and negates those that the permutation says: their part that does not depend on
    /// activations becomes an initial accumulator.
    fn permute(
        &mut self,
        packed: &mut PackedWeights,
        panel: usize,
        permutations: &[BlockPermutation],
    ) {
        packed.permutations.push(permutations);
        let order = packed.permutations.of(panel);
        let column_init = &mut packed.segment_units.init[panel * packed.nr..];
        let mut row = vec![0; self.len];
        for (codes, base) in self.codes.chunks_exact_mut(self.stride).zip(column_init) {
            let blocks = order.patterns.iter().zip(order.sources);
            for ((pattern, source), to) in blocks.zip(row.as_chunks_mut::<{ BLOCK }>().0) {
                let from = &codes[usize::from(*source) * BLOCK..][..BLOCK];
                for (to, at) in to.iter_mut().zip(pattern) {
                    *to = from[usize::from(at & !NEGATED)];
                    if at & NEGATED != 0 {
                        *base += 255 * i32::from(*to);
                        *to = -*to;
                    }
                }
            }
            codes[..self.len].copy_from_slice(&row);
        }
    }

    /// The part of [`Isa::WINOGRAD`] that depends on the column alone.
    fn sum_of_products(&self, (kr, nr): (usize, usize), units: &mut Units, panel: usize) {
        for (column, codes) in self.codes.chunks_exact(self.stride).enumerate() {
            for (u, unit) in units.all.iter().enumerate() {
                let quads = codes[unit.steps.start * kr..unit.steps.end * kr].as_chunks::<4>().0;
                let products = quads.iter().map(|of| {
                    let [a, b, c, d] = of.map(i32::from);
                    a * c + b * d
                });
                let to = &mut units.init[(panel * units.all.len() + u) * nr + column];
                *to = products.fold(*to, i32::wrapping_sub);
            }
        }
    }

    fn write(&self, bits: usize, kr: usize, nr: usize, out: &mut [u8]) {
        match (bits, kr) {
            (8, 4) => self.write_steps::<4, 4>(nr, out, |codes| codes.map(|code| code as u8)),
            (8, _) => self.write_steps::<2, 2>(nr, out, |codes| codes.map(|code| code as u8)),
            (4, _) => self.write_steps::<4, 8>(nr, out, pack_codes::<4, 8>),
            _ => self.write_steps::<4, 16>(nr, out, pack_codes::<4, 16>),
        }
    }

    /// Writes k-steps of `V` bytes per column, made of `C` codes each.
    fn write_steps<const V: usize, const C: usize>(
        &self,
        nr: usize,
        out: &mut [u8],
        of: impl Fn(&[i8; C]) -> [u8; V],
    ) {
        let out = out.as_chunks_mut::<V>().0;
        for (i, step) in out.chunks_exact_mut(nr).enumerate() {
            let rows = self.codes.chunks_exact(self.stride);
            for (out, row) in step.iter_mut().zip(rows) {
                if let Some(codes) = row[..self.len][i * C..].first_chunk() {
                    *out = of(codes);
                }
            }
        }
    }
}

/// Packs `C / V` k-steps of a column into one, the first in the low bits, as `code + half`.
fn pack_codes<const V: usize, const C: usize>(codes: &[i8; C]) -> [u8; V] {
    let bits = 8 * V / C;
    let (half, mask) = (1 << (bits - 1), (1u8 << bits) - 1);
    let mut bytes = [0; V];
    for (i, code) in codes.iter().enumerate() {
        let unsigned = (*code as u8).wrapping_add(half) & mask;
        bytes[i % V] |= unsigned << (i / V * bits);
    }
    bytes
}

impl PackedWeights {
    fn set_parameters(&mut self, weights: &Weights<'_>, n: usize, row: &[i8]) {
        let segments = self.segments();
        let (panel, column) = (n / self.nr, n % self.nr);
        for units in core::iter::once(&mut self.segment_units).chain(&mut self.block_units) {
            units.set_sums(row, self.shift, (panel, column), self.nr);
        }
        for s in 0..segments {
            let from = match weights.granularity {
                Granularity::PerTensor => 0,
                Granularity::PerChannel(_) => n,
                Granularity::PerBlock(_) => n * segments + s,
            };
            let of = self.words;
            let words = &mut self.parameters[(panel * segments + s) * of.count()..][..of.count()];
            of.set(&mut words[..of.zero_points_at()], column, weights.scales[from]);
            if of.zero_points {
                let zero = i32::from(weights.zero_points[from]) + self.shift;
                words[of.zero_points_at() + column] = zero;
            }
            if of.minimums {
                of.set(&mut words[of.minimums_at()..], column, weights.minimums[from]);
            }
        }
    }
}

/// Whether half precision has all these values.
fn are_halves(values: &[f32]) -> bool {
    values.iter().all(|value| f16_to_f32(f32_to_f16(*value)).to_bits() == value.to_bits())
}
