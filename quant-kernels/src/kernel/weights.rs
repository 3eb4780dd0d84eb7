//! Weights in the order in which a kernel reads them.
//!
//! ```text
//! weights   panel 0 │ panel 1 │ …                 COLUMNS outputs each, the last one filled up
//! panel     segment 0 │ segment 1 │ …             one per block along K, or one for all of K
//! segment   step 0 │ step 1 │ …                   filled up to whole groups of steps; K may be in
//!                                               an `order` of its own
//! step      column 0: VALUES codes │ column 1 │ …
//! ```
//! Codes of 4 and 2 bits stay packed: a step then holds two or four steps, the first in the low
//! bits, as unsigned numbers (code + 8 or + 2). What fills up is code 0; activations there are 0, which
//! matters where codes are multiplied as they are stored ([`Isa::UNSIGNED_CODES`]).
//!
//! Beside the codes stand, per segment and column, the scale and
//! `term = Σ_k code - len · zero_point`: with activations `a` and their zero point `za`, both
//! shifted alike,
//! `Σ (a - za) · (code - zw) = Σ a · code - za · term - zw · Σ a`,
//! where the last sum is needed only if some `zw` is not 0. Where `Σ a · (code + half)` is summed, sums
//! start with `-half · Σ a`. All of it wraps in i32: the value it ends with fits, so what happens on
//! the way does not matter.

use super::dispatch::{Arithmetic, Kernel, Operation};
use super::error::PackError;
use super::isa::{Isa, Line};
use super::order::{self, Arrangement, MIRRORED, Orders};
use super::subbyte::SubByte;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Quantized weights as they are stored: `[n, k]`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// Outputs.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// `n` rows of `k` codes.
    pub codes: Codes<'a>,
    /// Which codes share a scale and a zero point.
    pub sharing: Sharing,
    /// One scale per tensor, per row, or per block of each row (row-major).
    pub scales: &'a [f32],
    /// As many zero points, or none if all are zero.
    pub zero_points: &'a [i8],
}

/// Codes of a matrix.
#[derive(Clone, Copy, Debug)]
pub enum Codes<'a> {
    /// One byte each.
    Bytes(&'a [i8]),
    /// Packed; every row starts on a byte boundary.
    Packed(SubByte, &'a [u8]),
}

/// Which codes of a weight matrix `[n, k]` share a scale and a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All.
    Tensor,
    /// Those of one output (a row).
    Channel,
    /// This many neighbours in a row; the last block of a row may be shorter.
    Block(usize),
}

/// Weights packed for one kernel; refused by any other.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    pub(super) kernel: Kernel,
    pub(super) arithmetic: Arithmetic,
    pub(super) n: usize,
    pub(super) k: usize,
    /// Length of a segment, at most `k`.
    pub(super) segment: usize,
    pub(super) bits: usize,
    pub(super) columns: usize,
    /// Rows of the tallest tile.
    pub(super) tallest: usize,
    /// [`Isa::UNPACKS`], or [`Isa::WIDENS`] of codes of 8 bits.
    pub(super) unpacks: usize,
    data: Vec<Line>,
    /// Bytes of a panel as stored.
    pub(super) panel_bytes: usize,
    /// Steps of each segment of a panel, once unpacked.
    pub(super) steps: Vec<usize>,
    /// Lines of one prepared row of activations: each segment starts with a new one.
    pub(super) lines: usize,
    /// Empty, unless `arithmetic` is [`Arithmetic::Ordered`].
    pub(super) orders: Orders,
    /// `[panel][segment][word][column]`: see [`Words`].
    parameters: Vec<i32>,
    words: Words,
    /// Whether sums start with something of a row alone: [`Isa::ROW_STARTS`].
    pub(super) row_starts: bool,
}

/// What [`Columns`] has: the bits of scales, terms, bases, zero points; the latter two if needed.
#[derive(Clone, Copy, Debug)]
struct Words {
    bases: bool,
    zeros: bool,
}

impl Words {
    const SCALES: usize = 0;
    const TERMS: usize = 1;
    const BASES: usize = 2;

    fn zeros(self) -> usize {
        2 + usize::from(self.bases)
    }

    fn count(self) -> usize {
        self.zeros() + usize::from(self.zeros)
    }
}

/// What belongs to the columns of a panel in one segment.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) scales: &'a [f32],
    pub(super) terms: &'a [i32],
    /// Empty if all are zero.
    pub(super) zeros: &'a [i32],
    /// Where sums start, if not at 0: [`Isa::BASES`].
    pub(super) bases: &'a [i32],
}

impl PackedWeights {
    /// Packs weights for a kernel.
    ///
    /// # Errors
    /// - a slice does not have the length its shape demands, or the block length is 0;
    /// - `k` is so large that a sum could leave i32 (rule 6): the longest segment times 255 times
    ///   the largest `|code - zero point|`.
    pub fn new(kernel: Kernel, weights: &Weights<'_>) -> Result<Self, PackError> {
        let segment = check(weights)?;
        Ok(pack(kernel, arithmetic(kernel, weights, segment), weights, segment))
    }

    /// Packs weights for a kernel and for activations that stay floats:
    /// [`Kernel::linear_weight_only`].
    ///
    /// Integer products take them, too, but on AVX2 they are faster with those of
    /// [`PackedWeights::new`], which are in an order of their own.
    ///
    /// # Errors
    /// As [`PackedWeights::new`].
    pub fn for_floats(kernel: Kernel, weights: &Weights<'_>) -> Result<Self, PackError> {
        let segment = check(weights)?;
        let arithmetic = match weights.codes {
            Codes::Packed(..) => Arithmetic::FewBits,
            Codes::Bytes(_) => Arithmetic::FullRange,
        };
        Ok(pack(kernel, arithmetic, weights, segment))
    }

    /// The kernel that can use these weights.
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Outputs.
    pub const fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let words = self.parameters.len() * size_of::<i32>();
        self.data.len() * size_of::<Line>() + self.orders.bytes() + words
    }

    /// Runs an operation with the instruction set that multiplies these weights.
    pub(super) fn multiply<O: Operation>(&self, operation: O) -> O::Output {
        self.kernel.multiply(self.arithmetic, operation)
    }

    /// The same for panels that are [unpacked](super::unpack) already.
    pub(super) fn multiply_unpacked<O: Operation>(&self, operation: O) -> O::Output {
        self.kernel.multiply_unpacked(self.arithmetic, operation)
    }

    pub(super) fn panels(&self) -> usize {
        self.n.div_ceil(self.columns)
    }

    pub(super) fn segments(&self) -> usize {
        self.steps.len()
    }

    /// The part of K that is in a segment.
    pub(super) fn segment_range(&self, segment: usize) -> Range<usize> {
        let start = segment * self.segment;
        start..self.k.min(start + self.segment)
    }

    /// Whether some zero point is not zero.
    pub(super) fn has_zeros(&self) -> bool {
        self.words.zeros
    }

    /// What packed codes are stored with, to be unsigned.
    pub(super) fn half(&self) -> u8 {
        1 << (self.bits - 1)
    }

    /// 0 if panels are multiplied as they are stored, whatever the number of rows.
    pub(super) fn unpacked_panel_bytes(&self) -> usize {
        match (self.bits, self.unpacks) {
            (8, 0) => 0,
            (8, _) => self.panel_bytes * 2,
            (bits, _) => self.panel_bytes * 8 / bits,
        }
    }

    /// The codes of a panel as they are stored.
    pub(super) fn panel<T: bytemuck::Pod>(&self, panel: usize) -> &[T] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.data);
        bytemuck::cast_slice(&bytes[panel * self.panel_bytes..][..self.panel_bytes])
    }

    /// What belongs to the columns of a panel, for the instruction set that multiplies these weights.
    #[inline(always)]
    pub(super) fn columns_of<I: Isa>(&self, panel: usize, segment: usize) -> Columns<'_> {
        debug_assert_eq!(self.words.bases, I::BASES);
        let words = Words { bases: I::BASES, ..self.words };
        let each = words.count() * I::COLUMNS;
        let at = (panel * self.segments() + segment) * each;
        let (scales, rest) = self.parameters[at..][..each].split_at(I::COLUMNS);
        let (terms, rest) = rest.split_at(I::COLUMNS);
        let (bases, zeros) = rest.split_at(if I::BASES { I::COLUMNS } else { 0 });
        Columns { scales: bytemuck::cast_slice(scales), terms, zeros, bases }
    }

    /// Where a word of [`Words`] is.
    fn word(&self, word: usize, panel: usize, segment: usize) -> usize {
        ((panel * self.segments() + segment) * self.words.count() + word) * self.columns
    }
}

/// Checks lengths and limits; returns the length of a segment.
pub(super) fn check(weights: &Weights<'_>) -> Result<usize, PackError> {
    let &Weights { n, k, codes, sharing, scales, zero_points } = weights;
    let (expected, found) = match codes {
        Codes::Bytes(codes) => (n.checked_mul(k), codes.len()),
        Codes::Packed(width, codes) => (n.checked_mul(width.row_bytes(k)), codes.len()),
    };
    if expected != Some(found) {
        return Err(PackError::CodesLength { n, k, found });
    }
    let (segment, params) = match sharing {
        Sharing::Tensor => (k.max(1), 1),
        Sharing::Channel => (k.max(1), n),
        Sharing::Block(0) => return Err(PackError::EmptyBlock),
        Sharing::Block(len) => (len.min(k.max(1)), n * k.div_ceil(len)),
    };
    if scales.len() != params {
        return Err(PackError::ScalesLength { expected: params, found: scales.len() });
    }
    if !zero_points.is_empty() && zero_points.len() != params {
        return Err(PackError::ZeroPointsLength { expected: params, found: zero_points.len() });
    }
    let half = match codes {
        Codes::Bytes(_) => 128,
        Codes::Packed(width, _) => 1 << (width.bits() - 1),
    };
    let reach =
        |zero: &i8| (-half - i32::from(*zero)).abs().max((half - 1 - i32::from(*zero)).abs());
    let reach = zero_points.iter().map(reach).max().unwrap_or(half) as usize;
    let limit = i32::MAX as usize / (255 * reach);
    if segment > limit {
        return Err(PackError::TooLong { k: segment, limit });
    }
    Ok(segment)
}

/// What the layout needs to know of an instruction set.
struct Shape {
    values: usize,
    columns: usize,
    tallest: usize,
    unpacks: usize,
    widens: usize,
    group: usize,
    bases: bool,
    crosses: bool,
    row_starts: bool,
}

struct ShapeOf;

impl Operation for ShapeOf {
    type Output = Shape;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> Shape {
        Shape {
            values: I::VALUES,
            columns: I::COLUMNS,
            tallest: I::ROWS,
            unpacks: I::UNPACKS,
            widens: I::WIDENS,
            group: I::GROUP,
            bases: I::BASES,
            crosses: I::CROSSES,
            row_starts: I::ROW_STARTS,
        }
    }
}

fn arithmetic(kernel: Kernel, weights: &Weights<'_>, segment: usize) -> Arithmetic {
    match weights.codes {
        Codes::Packed(..) => Arithmetic::FewBits,
        Codes::Bytes(codes) => {
            let whole = weights.k > 0 && segment >= weights.k;
            if whole && kernel.orders() && order::pays(kernel, codes, weights.n, weights.k) {
                Arithmetic::Ordered
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
    segment: usize,
) -> PackedWeights {
    let Shape { values, columns, tallest, unpacks, widens, group, bases, crosses, row_starts } =
        kernel.multiply(arithmetic, ShapeOf);
    let &Weights { n, k, codes, .. } = weights;
    // Packed codes are multiplied 8 steps at a time by every kernel.
    let (bits, group, unpacks) = match codes {
        Codes::Packed(width, _) => (width.bits(), 8, unpacks),
        Codes::Bytes(_) => (8, group, widens),
    };
    let segments = k.div_ceil(segment);
    let steps: Vec<usize> = (0..segments)
        .map(|s| segment.min(k - s * segment).div_ceil(values).next_multiple_of(group))
        .collect();
    let panels = n.div_ceil(columns);
    let panel_bytes = steps.iter().sum::<usize>() * columns * values * bits / 8;
    let mut data = vec![Line::ZERO; (panels * panel_bytes).div_ceil(size_of::<Line>())];
    let words = Words { bases, zeros: weights.zero_points.iter().any(|zero| *zero != 0) };
    let mut packed = PackedWeights {
        kernel,
        arithmetic,
        n,
        k,
        segment,
        bits,
        columns,
        tallest,
        unpacks,
        data: Vec::new(),
        panel_bytes,
        orders: Orders::new(steps.iter().sum::<usize>() * values / order::BLOCK),
        lines: steps.iter().map(|steps| steps.div_ceil(Line::STEPS)).sum(),
        steps,
        parameters: vec![0; panels * segments * words.count() * columns],
        words,
        row_starts,
    };
    let blocks = packed.orders.blocks();
    let arrangements = match (codes, arithmetic) {
        (Codes::Bytes(codes), Arithmetic::Ordered) => order::arrange(kernel, codes, (n, k), blocks),
        _ => Vec::new(),
    };
    let mut rows = Rows::new(&packed, values);
    for (panel, bytes) in
        bytemuck::cast_slice_mut(&mut data).chunks_exact_mut(panel_bytes.max(1)).enumerate()
    {
        rows.read(weights, &mut packed, panel);
        match arithmetic {
            Arithmetic::Ordered => {
                let arrangements = &arrangements[panel * blocks..][..blocks];
                rows.order(&mut packed, panel, arrangements);
            }
            Arithmetic::FullRange if crosses => rows.cross(&mut packed, panel),
            _ => {}
        }
        rows.write(bits, values, columns, bytes);
    }
    packed.data = data;
    packed
}

/// The codes of a panel, a row for each column, with segments filled up to whole steps by code 0.
struct Rows {
    codes: Vec<i8>,
    /// From row to row: not a multiple of the distance at which a cache's sets repeat, since the
    /// rows are read side by side.
    stride: usize,
    /// A row as it is stored.
    row: Vec<i8>,
    /// Where each segment starts.
    offsets: Vec<usize>,
    len: usize,
}

impl Rows {
    fn new(packed: &PackedWeights, values: usize) -> Self {
        let mut len = 0;
        let mut offsets = Vec::with_capacity(packed.steps.len());
        for steps in &packed.steps {
            offsets.push(len);
            len += steps * values;
        }
        let stride = len.next_multiple_of(64) + 64;
        let (codes, row) = (vec![0; stride * packed.columns], vec![0; packed.k]);
        Self { codes, stride, row, offsets, len }
    }

    fn read(&mut self, weights: &Weights<'_>, packed: &mut PackedWeights, panel: usize) {
        let first = panel * packed.columns;
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

    /// Brings codes into an order, and mirrors those that want it: their part that does not depend
    /// on activations is what sums start with.
    fn order(&mut self, packed: &mut PackedWeights, panel: usize, arrangements: &[Arrangement]) {
        packed.orders.push(arrangements);
        let order = packed.orders.of(panel);
        let at = packed.word(Words::BASES, panel, 0);
        let bases = &mut packed.parameters[at..];
        let mut row = vec![0; self.len];
        for (codes, base) in self.codes.chunks_exact_mut(self.stride).zip(bases) {
            let blocks = order.patterns.iter().zip(order.sources);
            for ((pattern, source), to) in blocks.zip(row.as_chunks_mut::<{ order::BLOCK }>().0) {
                let from = &codes[usize::from(*source) * order::BLOCK..][..order::BLOCK];
                for (to, at) in to.iter_mut().zip(pattern) {
                    *to = from[usize::from(at & !MIRRORED)];
                    if at & MIRRORED != 0 {
                        *base += 255 * i32::from(*to);
                        *to = -*to;
                    }
                }
            }
            codes[..self.len].copy_from_slice(&row);
        }
    }

    /// What sums of [`Isa::CROSSES`] hold of codes alone.
    fn cross(&self, packed: &mut PackedWeights, panel: usize) {
        for (column, codes) in self.codes.chunks_exact(self.stride).enumerate() {
            for (s, start) in self.offsets.iter().enumerate() {
                let end = self.offsets.get(s + 1).map_or(self.len, |end| *end);
                let fours = codes[*start..end].as_chunks::<4>().0;
                let products = fours.iter().map(|of| {
                    let [a, b, c, d] = of.map(i32::from);
                    a * c + b * d
                });
                let to = packed.word(Words::BASES, panel, s) + column;
                packed.parameters[to] = products.fold(0, i32::wrapping_sub);
            }
        }
    }

    fn write(&self, bits: usize, values: usize, columns: usize, out: &mut [u8]) {
        match (bits, values) {
            (8, 4) => self.write_steps::<4, 4>(columns, out, |codes| codes.map(|code| code as u8)),
            (8, _) => self.write_steps::<2, 2>(columns, out, |codes| codes.map(|code| code as u8)),
            (4, _) => self.write_steps::<4, 8>(columns, out, squeeze::<4, 8>),
            _ => self.write_steps::<4, 16>(columns, out, squeeze::<4, 16>),
        }
    }

    /// Writes steps of `V` bytes per column, made of `C` codes each.
    fn write_steps<const V: usize, const C: usize>(
        &self,
        columns: usize,
        out: &mut [u8],
        of: impl Fn(&[i8; C]) -> [u8; V],
    ) {
        let out = out.as_chunks_mut::<V>().0;
        for (i, step) in out.chunks_exact_mut(columns).enumerate() {
            let rows = self.codes.chunks_exact(self.stride);
            for (out, row) in step.iter_mut().zip(rows) {
                if let Some(codes) = row[..self.len][i * C..].first_chunk() {
                    *out = of(codes);
                }
            }
        }
    }
}

/// Puts `C / V` steps of a column into one, the first in the low bits, as `code + half`.
fn squeeze<const V: usize, const C: usize>(codes: &[i8; C]) -> [u8; V] {
    let bits = 8 * V / C;
    let (half, mask) = (1 << (bits - 1), (1u8 << bits) - 1);
    let mut bytes = [0; V];
    for (i, code) in codes.iter().enumerate() {
        let unsigned = (*code as u8).wrapping_add(half) & mask;
        bytes[i % V] |= unsigned << (i / V * bits);
    }
    bytes
}

fn unpack_row(weights: &Weights<'_>, n: usize, row: &mut [i8]) {
    let k = weights.k;
    match weights.codes {
        Codes::Bytes(codes) => row.copy_from_slice(&codes[n * k..][..k]),
        Codes::Packed(width, codes) => {
            let bytes = width.row_bytes(k);
            Kernel::SCALAR.unpack(width, &codes[n * bytes..][..bytes], row);
        }
    }
}

impl PackedWeights {
    fn set_parameters(&mut self, weights: &Weights<'_>, n: usize, row: &[i8]) {
        let segments = self.segments();
        let (panel, column) = (n / self.columns, n % self.columns);
        for (s, codes) in row.chunks(self.segment).enumerate() {
            let from = match weights.sharing {
                Sharing::Tensor => 0,
                Sharing::Channel => n,
                Sharing::Block(_) => n * segments + s,
            };
            let at = |word| self.word(word, panel, s) + column;
            let [scale, term, zero_at] = [Words::SCALES, Words::TERMS, self.words.zeros()].map(at);
            let zero = weights.zero_points.get(from).map_or(0, |zero| i32::from(*zero));
            let sum: i32 = codes.iter().map(|code| i32::from(*code)).sum();
            self.parameters[scale] = weights.scales[from].to_bits() as i32;
            self.parameters[term] = sum - zero * codes.len() as i32;
            if self.has_zeros() {
                self.parameters[zero_at] = zero;
            }
        }
    }
}
