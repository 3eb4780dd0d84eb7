//! From integer sums to outputs (`docs/numerics.md`, rule 6).

use super::elementwise::Affine;
use super::error::LinearError;
use super::linear::range;
use core::marker::PhantomData;
use core::ops::Range;

/// What happens to each output after the product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value per output, added last. Without it nothing is added.
    pub bias: Option<&'a [f32]>,
    /// Whether negative outputs (and NaN) become `+0.0`.
    pub relu: bool,
}

/// Where outputs go, `[m, n]` in row-major order.
#[derive(Debug)]
pub enum Output<'a> {
    /// As floats.
    F32(&'a mut [f32]),
    /// Quantized by rule 3.
    I8 {
        /// The codes.
        codes: &'a mut [i8],
        /// Their scale.
        scale: f32,
        /// Their zero point.
        zero_point: i8,
        /// The least and the greatest code.
        range: (i8, i8),
    },
    /// The integer sums alone; scales and epilogue are not applied.
    Sums(&'a mut [i32]),
}

impl Output<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I8 { codes, .. } => codes.len(),
            Self::Sums(sums) => sums.len(),
        }
    }

    pub(super) fn check_range(&self) -> Result<(), LinearError> {
        match self {
            Self::I8 { range: codes, .. } => range(*codes),
            Self::F32(_) | Self::Sums(_) => Ok(()),
        }
    }

    /// `len` elements from `start` on.
    pub(super) fn part(&mut self, start: usize, len: usize) -> Output<'_> {
        let part = start..start + len;
        match self {
            Self::F32(values) => Output::F32(&mut values[part]),
            Self::I8 { codes, scale, zero_point, range } => Output::I8 {
                codes: &mut codes[part],
                scale: *scale,
                zero_point: *zero_point,
                range: *range,
            },
            Self::Sums(sums) => Output::Sums(&mut sums[part]),
        }
    }
}

/// An output that several threads fill, each its own elements.
pub(super) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: it stands for a `&mut [T]`, which can be sent; what threads may do with copies of it is
// the contract of `slice` and of `SharedRows::columns`.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// Elements of the output.
    ///
    /// # Panics
    /// The elements are not within the output.
    ///
    /// # Safety
    /// - Nothing else refers to these elements while the result lives.
    pub(super) unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        let row = self.rows(start, len, 1, len);
        // SAFETY: the caller's obligation is the same.
        unsafe { row.columns(0, 0..len) }
    }

    /// `count` rows of `len` elements, `stride` apart, checked once for all that is made of them.
    ///
    /// # Panics
    /// The elements are not within the output.
    #[inline(always)]
    pub(super) fn rows(
        &self,
        start: usize,
        stride: usize,
        count: usize,
        len: usize,
    ) -> SharedRows<'a, T> {
        let last = stride.saturating_mul(count.saturating_sub(1)).saturating_add(start);
        assert!(last <= self.len && len <= self.len - last, "within the output");
        // SAFETY: `start`, which is at most `last`, is within the slice `self` was made of.
        let first = unsafe { self.start.add(start) };
        SharedRows { first, stride, count, len, owner: PhantomData }
    }
}

/// Rows of an output that several threads fill.
pub(super) struct SharedRows<'a, T> {
    first: *mut T,
    stride: usize,
    count: usize,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

impl<'a, T> SharedRows<'a, T> {
    /// Some columns of a row.
    ///
    /// # Panics
    /// There are not so many rows or columns.
    ///
    /// # Safety
    /// - Nothing else refers to these elements while the result lives.
    #[inline(always)]
    pub(super) unsafe fn columns(&self, row: usize, columns: Range<usize>) -> &'a mut [T] {
        assert!(row < self.count, "one of the rows");
        assert!(columns.start <= columns.end && columns.end <= self.len, "columns of a row");
        // SAFETY: `len` elements of each row are within the slice that the output was made of, as those
        // of the last one, which has the greatest place, are.
        let first = unsafe { self.first.add(row * self.stride + columns.start) };
        // SAFETY: as above. The slice is borrowed mutably for `'a`; that nobody else refers to these
        // elements is the caller's obligation.
        unsafe { core::slice::from_raw_parts_mut(first, columns.end - columns.start) }
    }
}

/// [`Output`] as threads share it.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    F32(Shared<'a, f32>),
    I8(Shared<'a, i8>, Affine),
    Sums(Shared<'a, i32>),
}

impl<'a> Target<'a> {
    pub(super) fn new(output: Output<'a>) -> Self {
        match output {
            Output::F32(values) => Self::F32(Shared::new(values)),
            Output::I8 { codes, scale, zero_point, range } => {
                let [zero_point, qmin, qmax] = [zero_point, range.0, range.1].map(i32::from);
                Self::I8(Shared::new(codes), Affine::new(scale, zero_point, qmin, qmax))
            }
            Output::Sums(sums) => Self::Sums(Shared::new(sums)),
        }
    }
}

/// Where element `[row, column]` of a product of `[m, n]` is in the output: `row · row_stride +
/// column · column_stride`. One of the two is 1, and the other is `n` or `m`, or more: different
/// elements have different places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strides {
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Strides {
    /// The place of an element.
    #[inline(always)]
    pub(super) fn place(self, row: usize, column: usize) -> usize {
        row * self.row + column * self.column
    }
}
