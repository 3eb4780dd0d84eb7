//! An output that several threads write.

use core::marker::PhantomData;
use core::ops::Range;

/// An output that several threads write, each its own elements.
pub(crate) struct Shared<'a, T> {
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
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// Some elements of the output.
    ///
    /// # Panics
    /// The elements are not within the output.
    ///
    /// # Safety
    /// - Nothing else refers to these elements while the result lives.
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        let row = self.rows(start, len, 1, len);
        // SAFETY: the caller's obligation is the same.
        unsafe { row.columns(0, 0..len) }
    }

    /// `count` rows of `len` elements, `stride` apart, whose bounds are checked once.
    ///
    /// # Panics
    /// The elements are not within the output.
    #[inline(always)]
    pub(crate) fn rows(
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

/// Rows of an output that several threads write.
pub(crate) struct SharedRows<'a, T> {
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
    pub(crate) unsafe fn columns(&self, row: usize, columns: Range<usize>) -> &'a mut [T] {
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
