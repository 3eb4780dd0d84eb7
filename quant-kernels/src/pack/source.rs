//! Sources of activation rows: codes, or floats that are quantized while they are packed.

use crate::elementwise::affine::Affine;
use crate::elementwise::min_max::FindRange;
use crate::isa::{Isa, Operation};
use crate::scheme::{CodeRange, Grid, Mapping, NonFinite, QuantParams, Range as Values};
use core::ops::Range;

/// The parameters of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) scale: f32,
    /// The zero point, plus 128 while codes are unsigned, as a source gives them.
    pub(crate) zero: i32,
}

impl Row {
    pub(crate) fn new(scale: f32, zero_point: i32) -> Self {
        Self { scale, zero: zero_point + 128 }
    }
}

impl From<QuantParams> for Row {
    fn from(params: QuantParams) -> Self {
        Self::new(params.scale(), params.zero_point().into())
    }
}

/// A source of activation rows.
pub(crate) trait Source: Copy + Sync {
    /// The scale and the zero point of a row.
    fn row(&self, isa: impl Isa, row: usize) -> Result<Row, NonFinite>;

    /// The length of the blocks of a row that have parameters of their own.
    #[inline(always)]
    fn block(&self) -> Option<usize> {
        None
    }

    /// The scale and the zero point of a block of a row.
    #[inline(always)]
    fn of_block(&self, isa: impl Isa, row: usize, _: Range<usize>) -> Result<Row, NonFinite> {
        self.row(isa, row)
    }

    /// Whether all zero points are known to be 0.
    fn symmetric(&self) -> bool;

    /// Writes `N` codes of a row from `k` on, plus 128. `N` is the length of a whole line.
    #[inline(always)]
    fn fill<const N: usize>(
        &self,
        _: impl Isa,
        of: Row,
        row: usize,
        k: usize,
        codes: &mut [u8; N],
    ) {
        self.fill_part(of, row, k, codes);
    }

    /// [`Source::fill`] for less than a whole line.
    fn fill_part(&self, of: Row, row: usize, k: usize, codes: &mut [u8]);
}

/// Rows of codes.
#[derive(Clone, Copy)]
pub(crate) struct CodeRows<'a> {
    pub(crate) codes: &'a [i8],
    pub(crate) k: usize,
    /// One for all rows, or one per row; so the zero points, which may be empty.
    pub(crate) scales: &'a [f32],
    pub(crate) zero_points: &'a [i8],
}

/// The element of a row, if there is one per row, or the only element.
fn of_row<T: Copy>(values: &[T], row: usize) -> Option<T> {
    values.get(if values.len() == 1 { 0 } else { row }).copied()
}

impl Source for CodeRows<'_> {
    #[inline(always)]
    fn row(&self, _: impl Isa, row: usize) -> Result<Row, NonFinite> {
        let zero = of_row(self.zero_points, row).unwrap_or(0);
        Ok(Row::new(of_row(self.scales, row).unwrap_or(1.0), i32::from(zero)))
    }

    fn symmetric(&self) -> bool {
        self.zero_points.iter().all(|zero| *zero == 0)
    }

    #[inline(always)]
    fn fill_part(&self, _: Row, row: usize, k: usize, codes: &mut [u8]) {
        let from = &self.codes[row * self.k + k..][..codes.len()];
        for (code, from) in codes.iter_mut().zip(from) {
            *code = *from as u8 ^ 0x80;
        }
    }
}

/// Rows of floats, quantized with given parameters or by their own range.
#[derive(Clone, Copy)]
pub(crate) struct FloatRows<'a> {
    values: &'a [f32],
    k: usize,
    range: RangeOf,
    qmin: i32,
    qmax: i32,
}

impl<'a> FloatRows<'a> {
    pub(crate) fn new(values: &'a [f32], k: usize, range: RangeOf, codes: CodeRange) -> Self {
        Self { values, k, range, qmin: codes.min().into(), qmax: codes.max().into() }
    }
}

/// The origin of the parameters of float rows.
#[derive(Clone, Copy)]
pub(crate) enum RangeOf {
    /// Given, for values that are known to be finite.
    Finite(Row),
    /// Given; infinities saturate, and NaN is an error.
    Given(Row),
    /// The range of each row.
    Row(Grid),
    /// The range of each block of so many values of a row.
    Block(Grid, usize),
}

impl Source for FloatRows<'_> {
    #[inline(always)]
    fn row(&self, isa: impl Isa, row: usize) -> Result<Row, NonFinite> {
        let values = &self.values[row * self.k..][..self.k];
        match self.range {
            RangeOf::Finite(of) => Ok(of),
            RangeOf::Given(of) => {
                if (FindRange { values }).run(isa).nan() {
                    return Err(first(values, row * self.k, |value| value.is_nan()));
                }
                Ok(of)
            }
            RangeOf::Row(grid) | RangeOf::Block(grid, _) => {
                self.of_range(isa, grid, row, 0..self.k)
            }
        }
    }

    #[inline(always)]
    fn block(&self) -> Option<usize> {
        match self.range {
            RangeOf::Block(_, len) => Some(len),
            _ => None,
        }
    }

    #[inline(always)]
    fn of_block(&self, isa: impl Isa, row: usize, k: Range<usize>) -> Result<Row, NonFinite> {
        match self.range {
            RangeOf::Block(grid, _) => self.of_range(isa, grid, row, k),
            _ => self.row(isa, row),
        }
    }

    fn symmetric(&self) -> bool {
        match self.range {
            RangeOf::Finite(of) | RangeOf::Given(of) => of.zero == 128,
            RangeOf::Row(grid) | RangeOf::Block(grid, _) => grid.mapping() == Mapping::Symmetric,
        }
    }

    #[inline(always)]
    fn fill<const N: usize>(
        &self,
        isa: impl Isa,
        of: Row,
        row: usize,
        k: usize,
        codes: &mut [u8; N],
    ) {
        let Some(values) = self.values[row * self.k + k..].first_chunk::<N>() else { return };
        self.affine(of).codes(isa, values, codes);
    }

    #[inline(always)]
    fn fill_part(&self, of: Row, row: usize, k: usize, codes: &mut [u8]) {
        let affine = self.affine(of);
        let values = &self.values[row * self.k + k..][..codes.len()];
        for (code, value) in codes.iter_mut().zip(values) {
            *code = affine.code(*value) as u8 ^ 0x80;
        }
    }
}

impl FloatRows<'_> {
    /// The parameters of the range of some values of a row.
    #[inline(always)]
    fn of_range(
        &self,
        isa: impl Isa,
        grid: Grid,
        row: usize,
        k: Range<usize>,
    ) -> Result<Row, NonFinite> {
        let start = row * self.k + k.start;
        let values = &self.values[start..][..k.len()];
        let ends = FindRange { values }.run(isa);
        if !ends.finite() {
            return Err(first(values, start, |value| !value.is_finite()));
        }
        let (lo, hi) = ends.range();
        Ok(params_of(grid, lo, hi).into())
    }

    #[inline(always)]
    fn affine(&self, of: Row) -> Affine {
        Affine::new(of.scale, of.zero - 128, self.qmin, self.qmax)
    }
}

/// Rules 1 and 2 for a finite range.
pub(crate) fn params_of(grid: Grid, lo: f32, hi: f32) -> QuantParams {
    // Neither can fail: both ends are finite, and so is the f32 scale of a finite range.
    let params = Values::new(lo.min(0.0), hi.max(0.0)).and_then(|range| grid.params(range).ok());
    params.unwrap_or(QuantParams::UNIT)
}

#[cold]
fn first(values: &[f32], start: usize, bad: impl Fn(&f32) -> bool) -> NonFinite {
    let at = values.iter().position(bad).unwrap_or(0);
    NonFinite { index: start + at, value: values[at] }
}
