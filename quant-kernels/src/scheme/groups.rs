//! Rule 4: which elements of a tensor share parameters.

#[cfg(feature = "alloc")]
use core::fmt;
use core::ops::Range;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use super::Granularity;

/// The groups of elements that share parameters, for one shape and granularity.
///
/// Groups are numbered in row-major order of what is left of the index: channels along their
/// axis; blocks along each row, row after row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    len: usize,
    layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// One group.
    Tensor,
    /// Runs of `inner` elements; run `r` belongs to channel `r % channels`. With channels along
    /// the last axis, `inner` is 1 and the channels are the columns of a row.
    Channels { channels: usize, inner: usize, columns: bool },
    /// Rows of `row` elements, cut into blocks of `block`.
    Blocks { row: usize, block: usize },
}

/// A run of neighbouring elements of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group's number.
    pub index: usize,
    /// The positions of the elements, in row-major order.
    pub elements: Range<usize>,
}

impl Groups {
    /// The groups of a tensor with this shape.
    ///
    /// A tensor of rank 0 is one group whatever the granularity.
    ///
    /// # Errors
    /// There is no such axis, or the shape has more elements than `usize` can count.
    #[cfg(feature = "alloc")]
    pub fn new(shape: &[usize], granularity: Granularity) -> Result<Self, LayoutError> {
        Self::of(shape, granularity).ok_or_else(|| match granularity {
            Granularity::PerChannel(axis) if element_count(shape).is_some() => {
                LayoutError::NoSuchAxis { axis, shape: shape.into() }
            }
            _ => LayoutError::TooManyElements { shape: shape.into() },
        })
    }

    /// [`new`](Self::new) without a reason, which would take memory.
    pub fn of(shape: &[usize], granularity: Granularity) -> Option<Self> {
        let len = element_count(shape)?;
        let layout = match (granularity, shape) {
            (Granularity::PerTensor, _) | (_, []) => Layout::Tensor,
            (Granularity::PerChannel(axis), _) => {
                let position = axis.resolve(shape.len())?;
                // Uncountable only beside a zero, and then there is nothing to cut into runs.
                let inner = element_count(&shape[position + 1..]).unwrap_or(0);
                let columns = position + 1 == shape.len();
                Layout::Channels { channels: shape[position], inner, columns }
            }
            (Granularity::PerBlock(block), [.., row]) => {
                Layout::Blocks { row: *row, block: block.len() }
            }
        };
        Some(Self { len, layout })
    }

    /// The number of elements in all groups.
    #[inline]
    pub fn element_count(&self) -> usize {
        self.len
    }

    /// The number of groups, which is the number of scales.
    #[inline]
    pub fn count(&self) -> usize {
        match self.layout {
            Layout::Tensor => 1,
            Layout::Channels { channels, .. } => channels,
            Layout::Blocks { row: 0, .. } => 0,
            Layout::Blocks { row, block } => self.len / row * row.div_ceil(block),
        }
    }

    /// The group that the element at `position` belongs to.
    #[inline]
    pub fn group_of(&self, position: usize) -> usize {
        match self.layout {
            Layout::Tensor => 0,
            Layout::Channels { channels, inner, .. } => position / inner % channels,
            Layout::Blocks { row, block } => {
                position / row * row.div_ceil(block) + position % row / block
            }
        }
    }

    /// Runs of neighbouring elements with one group, in row-major order; together all elements.
    #[inline]
    pub fn runs(&self) -> impl Iterator<Item = Group> + use<> {
        let Self { len, layout } = *self;
        let mut start = 0;
        let mut run = 0;
        core::iter::from_fn(move || {
            if start == len {
                return None;
            }
            let (index, length) = match layout {
                Layout::Tensor => (0, len),
                Layout::Channels { channels, inner, .. } => (run % channels, inner),
                Layout::Blocks { row, block } => (run, block.min(row - start % row)),
            };
            let elements = start..start + length;
            start += length;
            run += 1;
            Some(Group { index, elements })
        })
    }

    /// The runs within one row of the last axis, whose length is `row`; positions count from the
    /// start of the row. Not meaningful for channels along the last axis.
    pub fn runs_in_row(&self, number: usize, row: usize) -> impl Iterator<Item = Group> + use<> {
        let (first, step) = match self.layout {
            Layout::Tensor => (0, row),
            Layout::Channels { channels, inner, .. } => (number * row / inner % channels, row),
            Layout::Blocks { block, .. } => (number * row.div_ceil(block), block),
        };
        (0..row).step_by(step.max(1)).enumerate().map(move |(i, start)| Group {
            index: first + i,
            elements: start..row.min(start + step),
        })
    }

    /// The runs of one group, in ascending order.
    #[inline]
    pub fn runs_of(&self, group: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let Self { len, layout } = *self;
        let (first, length, step) = match layout {
            Layout::Tensor => (0, len, len),
            Layout::Channels { channels, inner, .. } => (group * inner, inner, channels * inner),
            Layout::Blocks { row, block } => {
                let per_row = row.div_ceil(block);
                let within = group % per_row * block;
                (group / per_row * row + within, block.min(row - within), len)
            }
        };
        (first..len).step_by(step.max(1)).map(move |start| start..start + length)
    }

    /// Whether neighbours belong to different channels: the axis is the last.
    #[inline]
    pub fn is_interleaved(&self) -> bool {
        matches!(self.layout, Layout::Channels { columns: true, .. })
    }
}

/// The number of elements of a shape, or `None` if `usize` cannot count them.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    // A zero anywhere makes the product zero, even where the other factors would overflow.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n))
}

#[cfg(feature = "alloc")]
/// A scheme does not fit a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// The tensor has no such axis.
    NoSuchAxis {
        /// The axis asked for.
        axis: super::Axis,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// The elements cannot be counted in a `usize`.
    TooManyElements {
        /// The shape.
        shape: Vec<usize>,
    },
}

#[cfg(feature = "alloc")]
impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchAxis { axis, shape } => {
                write!(f, "a tensor of shape {shape:?} has no axis {}", axis.index())
            }
            Self::TooManyElements { shape } => {
                write!(f, "a tensor of shape {shape:?} has too many elements to count")
            }
        }
    }
}

#[cfg(feature = "alloc")]
impl core::error::Error for LayoutError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::{Axis, Block};

    fn groups(shape: &[usize], granularity: Granularity) -> Groups {
        Groups::new(shape, granularity).unwrap()
    }

    fn numbers(shape: &[usize], granularity: Granularity) -> Vec<usize> {
        let groups = groups(shape, granularity);
        let mut numbers = Vec::new();
        for run in groups.runs() {
            numbers.extend(run.elements.map(|_| run.index));
        }
        let one_by_one: Vec<_> = (0..numbers.len()).map(|i| groups.group_of(i)).collect();
        assert_eq!(numbers, one_by_one);
        for group in 0..groups.count() {
            let elements: Vec<_> = groups.runs_of(group).flatten().collect();
            let expected: Vec<_> = (0..numbers.len()).filter(|&i| numbers[i] == group).collect();
            assert_eq!(elements, expected);
        }
        numbers
    }

    #[test]
    fn channels_follow_their_axis() {
        let channel = |axis| Granularity::PerChannel(Axis::new(axis));
        assert_eq!(numbers(&[2, 3], channel(0)), [0, 0, 0, 1, 1, 1]);
        assert_eq!(numbers(&[2, 3], channel(1)), [0, 1, 2, 0, 1, 2]);
        assert_eq!(numbers(&[2, 2, 2], channel(-2)), [0, 0, 1, 1, 0, 0, 1, 1]);
    }

    #[test]
    fn the_last_block_of_a_row_may_be_shorter() {
        let block = Granularity::PerBlock(Block::new(2).unwrap());
        assert_eq!(numbers(&[2, 3], block), [0, 0, 1, 2, 2, 3]);
        assert_eq!(numbers(&[5], Granularity::PerBlock(Block::new(9).unwrap())), [0; 5]);
    }

    #[test]
    fn rank_zero_is_one_group() {
        for granularity in [
            Granularity::PerTensor,
            Granularity::PerChannel(Axis::FIRST),
            Granularity::PerBlock(Block::DEFAULT),
        ] {
            assert_eq!(numbers(&[], granularity), [0]);
        }
    }

    #[test]
    fn empty_tensors_have_no_runs() {
        for granularity in [
            Granularity::PerTensor,
            Granularity::PerChannel(Axis::FIRST),
            Granularity::PerChannel(Axis::LAST),
            Granularity::PerBlock(Block::DEFAULT),
        ] {
            for shape in [&[0usize, 3][..], &[3, 0], &[0]] {
                assert_eq!(groups(shape, granularity).runs().count(), 0);
                assert!(groups(shape, granularity).count() <= 3);
            }
        }
    }

    #[test]
    fn impossible_layouts_are_errors() {
        let axis = Axis::new(2);
        assert_eq!(
            Groups::new(&[2, 3], Granularity::PerChannel(axis)),
            Err(LayoutError::NoSuchAxis { axis, shape: [2, 3].into() })
        );
        // No elements, although the extents after the axis cannot be multiplied.
        let shape = [0, usize::MAX, 2];
        let empty = groups(&shape, Granularity::PerChannel(Axis::FIRST));
        assert_eq!((empty.count(), empty.runs().count()), (0, 0));
        let shape = [usize::MAX, 2];
        assert_eq!(
            Groups::new(&shape, Granularity::PerTensor),
            Err(LayoutError::TooManyElements { shape: shape.into() })
        );
    }
}
