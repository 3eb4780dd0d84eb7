//! Rule 1: the range of values that codes must cover.

use core::fmt;

/// The values `lo ..= hi` that codes must cover: finite, and with zero inside.
///
/// ```
/// use quant_kernels::scheme::Range;
/// let range = Range::of(&[0.5, 2.0, -0.25])?;
/// assert_eq!((range.lo(), range.hi(), range.magnitude()), (-0.25, 2.0, 2.0));
/// // Zero is always representable.
/// assert_eq!(Range::of(&[3.0])?.lo(), 0.0);
/// # Ok::<(), quant_kernels::scheme::NonFinite>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "(f32, f32)", into = "(f32, f32)"))]
pub struct Range {
    lo: f32,
    hi: f32,
}

impl Range {
    /// The range that holds zero alone.
    pub const ZERO: Self = Self { lo: 0.0, hi: 0.0 };

    /// `lo ..= hi`, widened to hold zero, or `None` if an end is NaN or infinite.
    #[inline]
    pub fn new(lo: f32, hi: f32) -> Option<Self> {
        // `+ 0.0` turns −0 into 0, so that equal ranges have equal bits.
        (lo.is_finite() && hi.is_finite())
            .then(|| Self { lo: lo.min(0.0) + 0.0, hi: hi.max(0.0) + 0.0 })
    }

    /// The range of `values`; that of no values is [`ZERO`](Self::ZERO).
    ///
    /// # Errors
    /// The first value that is NaN or infinite.
    pub fn of(values: &[f32]) -> Result<Self, NonFinite> {
        let (mut lo, mut hi) = (0.0f32, 0.0f32);
        for (index, &value) in values.iter().enumerate() {
            if !value.is_finite() {
                return Err(NonFinite { index, value });
            }
            lo = lo.min(value);
            hi = hi.max(value);
        }
        Ok(Self { lo: lo + 0.0, hi: hi + 0.0 })
    }

    /// The least value; never above 0.
    #[inline]
    pub const fn lo(self) -> f32 {
        self.lo
    }

    /// The greatest value; never below 0.
    #[inline]
    pub const fn hi(self) -> f32 {
        self.hi
    }

    /// `α = max(-lo, hi)`, the half width of the symmetric range around this one.
    #[inline]
    pub fn magnitude(self) -> f32 {
        (-self.lo).max(self.hi)
    }

    /// The smallest range that holds both.
    #[must_use]
    #[inline]
    pub fn union(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }
}

impl TryFrom<(f32, f32)> for Range {
    type Error = &'static str;

    fn try_from((lo, hi): (f32, f32)) -> Result<Self, Self::Error> {
        Self::new(lo, hi).ok_or("a range has finite ends")
    }
}

impl From<Range> for (f32, f32) {
    fn from(range: Range) -> Self {
        (range.lo, range.hi)
    }
}

/// A value is NaN or infinite where a finite one is needed.
#[derive(Clone, Copy, Debug)]
pub struct NonFinite {
    /// The value's position, in row-major order.
    pub index: usize,
    /// The value.
    pub value: f32,
}

/// By bits, so that NaN is itself.
impl PartialEq for NonFinite {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.value.to_bits() == other.value.to_bits()
    }
}

impl Eq for NonFinite {}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "element {} is {}", self.index, self.value)
    }
}

impl core::error::Error for NonFinite {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_non_finite_value_is_named() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Range::of(&[1.0, value, f32::NAN]).unwrap_err();
            assert_eq!(error, NonFinite { index: 1, value });
        }
    }

    #[test]
    fn zero_is_always_inside() {
        assert_eq!(Range::new(2.0, 3.0), Some(Range { lo: 0.0, hi: 3.0 }));
        assert_eq!(Range::new(-3.0, -2.0), Some(Range { lo: -3.0, hi: 0.0 }));
        assert_eq!(Range::of(&[]).unwrap(), Range::ZERO);
        assert_eq!(Range::of(&[-0.0]).unwrap().lo().to_bits(), 0);
    }

    #[test]
    fn ends_that_are_not_finite_make_no_range() {
        assert_eq!(Range::new(f32::NAN, 1.0), None);
        assert_eq!(Range::new(0.0, f32::INFINITY), None);
    }
}
