//! The running minimum and maximum.

use alloc::borrow::Cow;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::{Calibration, Observer};
use crate::kernel::Kernel;
use crate::scheme::{Grid, NonFinite, Range};

/// The range from the least to the greatest value: no value saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct MinMaxCalibration {}

impl Calibration for MinMaxCalibration {
    type Observer = MinMaxObserver;

    fn name(&self) -> Cow<'static, str> {
        "min-max".into()
    }

    fn observer(&self) -> MinMaxObserver {
        MinMaxObserver::default()
    }

    fn range(&self, observer: &MinMaxObserver, _grid: Grid) -> Option<Range> {
        observer.range()
    }

    fn finds_minimums(&self) -> bool {
        true
    }
}

/// The least and the greatest value seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct MinMaxObserver {
    seen: Option<Range>,
}

impl MinMaxObserver {
    /// The range of the values seen, widened to hold zero; `None` if there were none.
    pub fn range(&self) -> Option<Range> {
        self.seen
    }
}

impl Observer for MinMaxObserver {
    fn observe(&mut self, values: &[f32]) -> Result<(), NonFinite> {
        if values.is_empty() {
            return Ok(());
        }
        let (lo, hi) = Kernel::current().min_max(values)?;
        self.merge(&Self { seen: Range::new(lo, hi) });
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.seen = match (self.seen, other.seen) {
            (Some(a), Some(b)) => Some(a.union(b)),
            (a, b) => a.or(b),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(batches: &[&[f32]]) -> Option<Range> {
        let mut observer = MinMaxObserver::default();
        for batch in batches {
            observer.observe(batch).unwrap();
        }
        observer.range()
    }

    #[test]
    fn batches_do_not_matter() {
        assert_eq!(seen(&[&[1.0, -2.0, 3.0]]), seen(&[&[3.0], &[], &[-2.0, 1.0]]));
        assert_eq!(seen(&[&[], &[]]), None);
    }

    #[test]
    fn a_batch_with_a_nan_leaves_no_trace() {
        let mut observer = MinMaxObserver::default();
        assert_eq!(observer.observe(&[9.0, f32::NAN]).unwrap_err().index, 1);
        assert_eq!(observer.range(), None);
    }
}
