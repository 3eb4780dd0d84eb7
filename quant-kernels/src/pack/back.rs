//! The way back from packed weights to rows.

use super::b::PackedWeights;
use super::permutation::InversePermutation;
use crate::isa::permuted::{BLOCK, NEGATED};
use crate::scheme::f16_to_f32;
use alloc::vec::Vec;

/// A row of [`Weights`](crate::Weights), as it was before packing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WeightRow {
    /// `k` codes.
    pub codes: Vec<i8>,
    /// One for each block along K, or one.
    pub scales: Vec<f32>,
    /// As many.
    pub zero_points: Vec<i8>,
    /// As many, or none.
    pub minimums: Vec<f32>,
}

impl PackedWeights {
    /// A row, `0 .. n`, as it was before packing.
    ///
    /// Whoever needs the rows but seldom, to save them, need not keep them beside the packed weights.
    ///
    /// ```
    /// use quant_kernels::scheme::{Axis, Granularity};
    /// use quant_kernels::{Codes, Kernel, PackedWeights, Weights};
    ///
    /// let weights = Weights {
    ///     n: 2,
    ///     k: 3,
    ///     codes: Codes::Bytes(&[1, -2, 3, 4, 5, -6]),
    ///     granularity: Granularity::PerChannel(Axis::FIRST),
    ///     scales: &[0.5, 0.25],
    ///     zero_points: &[],
    ///     minimums: &[],
    /// };
    /// let packed = PackedWeights::new(Kernel::current(), &weights)?;
    /// let row = packed.row(1);
    /// assert_eq!((&row.codes[..], &row.scales[..]), (&[4, 5, -6][..], &[0.25][..]));
    /// # Ok::<(), quant_kernels::PackError>(())
    /// ```
    ///
    /// # Panics
    /// There is no such row.
    pub fn row(&self, row: usize) -> WeightRow {
        let (panel, column) = self.place(row);
        let mut found = WeightRow {
            codes: Vec::with_capacity(self.k),
            scales: Vec::with_capacity(self.segments()),
            zero_points: Vec::with_capacity(self.segments()),
            minimums: Vec::new(),
        };
        let codes = self.column_codes(panel, column);
        let mut start = 0;
        for (segment, steps) in self.steps.iter().enumerate() {
            let of = self.column_parameters(panel, segment, column);
            found.scales.push(of.scale);
            found.zero_points.push(of.zero_point as i8);
            found.minimums.extend(of.minimum);
            let range = self.segment_range(segment);
            found.codes.extend((start..).take(range.len()).map(|at| codes.at(at)));
            start += steps * codes.kr;
        }
        found
    }

    /// The values of a row, `0 .. n`: `f32(code - zero point) * scale`, plus the minimum if there is one.
    /// Looking up rows of packed weights saves the memory of a second copy; rows that are not packed are faster.
    ///
    /// # Panics
    /// There is no such row, or `values` does not have `k` elements.
    pub fn values(&self, row: usize, values: &mut [f32]) {
        assert_eq!(values.len(), self.k, "a value for each input");
        let (panel, column) = self.place(row);
        let codes = self.column_codes(panel, column);
        let mut start = 0;
        for (segment, steps) in self.steps.iter().enumerate() {
            let of = self.column_parameters(panel, segment, column);
            for (i, value) in values[self.segment_range(segment)].iter_mut().enumerate() {
                *value = (i32::from(codes.at(start + i)) - of.zero_point) as f32 * of.scale;
                if let Some(minimum) = of.minimum {
                    *value += minimum;
                }
            }
            start += steps * codes.kr;
        }
    }

    /// The panel and the column of a row.
    fn place(&self, row: usize) -> (usize, usize) {
        assert!(row < self.n, "row {row} of {} rows", self.n);
        (row / self.nr, row % self.nr)
    }

    fn column_codes(&self, panel: usize, column: usize) -> ColumnCodes<'_> {
        let panel_codes: &[u8] = self.panel(panel);
        let steps = self.steps.iter().sum::<usize>();
        let per_byte = 8 / self.bits;
        let kr = panel_codes.len() * per_byte / (steps * self.nr).max(1);
        ColumnCodes {
            panel: panel_codes,
            order: (!self.permutations.is_empty()).then(|| self.permutations.places(panel)),
            bits: self.bits,
            half: if per_byte == 1 { 0 } else { self.half() },
            kr,
            nr: self.nr,
            column,
        }
    }

    fn column_parameters(&self, panel: usize, segment: usize, column: usize) -> ColumnParameters {
        let of = self.words;
        let words = &self.parameters[(panel * self.segments() + segment) * of.count()..];
        let float = |words: &[i32]| match of.halves {
            true => f16_to_f32(bytemuck::cast_slice(words)[column]),
            false => f32::from_bits(words[column] as u32),
        };
        ColumnParameters {
            scale: float(words),
            zero_point: match of.zero_points {
                true => words[of.zero_points_at() + column] - self.shift,
                false => self.zero_point(),
            },
            minimum: of.minimums.then(|| float(&words[of.minimums_at()..])),
        }
    }
}

/// The parameters of a column in a segment.
struct ColumnParameters {
    scale: f32,
    zero_point: i32,
    minimum: Option<f32>,
}

/// The codes of a column of a panel, with the padding of segments.
struct ColumnCodes<'a> {
    panel: &'a [u8],
    order: Option<InversePermutation<'a>>,
    bits: usize,
    /// What was added to the codes.
    half: u8,
    /// Codes of a k-step.
    kr: usize,
    nr: usize,
    column: usize,
}

impl ColumnCodes<'_> {
    /// The code at a position along K.
    fn at(&self, at: usize) -> i8 {
        let Some(order) = self.order else { return self.stored(at) };
        let position = order.positions[at / BLOCK][at % BLOCK];
        let block = usize::from(order.blocks[at / BLOCK]);
        let code = self.stored(block * BLOCK + usize::from(position & !NEGATED));
        if position & NEGATED == 0 { code } else { -code }
    }

    /// The code at a position in the order of storage.
    fn stored(&self, at: usize) -> i8 {
        // As many k-steps share their bytes, the first in the low bits.
        let per_byte = 8 / self.bits;
        let (step, within) = (at / self.kr, at % self.kr);
        let byte = ((step / per_byte) * self.nr + self.column) * self.kr + within;
        let mask = ((1u16 << self.bits) - 1) as u8;
        let stored = self.panel[byte] >> (step % per_byte * self.bits) & mask;
        stored.wrapping_sub(self.half) as i8
    }
}
