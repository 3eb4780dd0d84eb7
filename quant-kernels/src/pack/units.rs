//! Units: the runs of K that share a scale of activations and of weights.
//!
//! A unit is a segment of weights, or a shorter block of activations within one. Panels store the codes of a
//! segment without gaps. So a block whose ends are not at whole k-steps is multiplied with all k-steps that it
//! touches, and its packed activations are 0 outside of the block.

use crate::isa::Line;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// K-steps of half a line.
pub(crate) const HALF_LINE: usize = Line::STEPS / 2;

/// All units of K.
#[derive(Clone, Debug)]
pub(crate) struct Units {
    /// Codes of a unit; the last one of a segment may be shorter.
    pub(crate) len: usize,
    pub(crate) all: Vec<Unit>,
    /// Whether unit `i` has [`HALF_LINE`] k-steps, and starts with k-step `i * HALF_LINE` of a panel and of a
    /// packed row. Else each unit starts with a line.
    pub(crate) half_lines: bool,
    /// Lines of a packed row of activations.
    pub(crate) lines: usize,
    /// `[panel][unit][column]`: the sums of codes as they are multiplied; empty if no activation has a zero point.
    pub(crate) offsets: Vec<i32>,
    /// `[panel][unit][column]`: the initial accumulators for activations whose zero point is 0; empty if all
    /// are 0.
    pub(crate) init: Vec<i32>,
}

/// A unit.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// The segment of weights.
    pub(crate) segment: usize,
    /// The range of K.
    pub(crate) k: Range<usize>,
    /// The k-steps of a panel.
    pub(crate) steps: Range<usize>,
    /// The first value along K of `steps`.
    pub(crate) first: usize,
    /// The first k-step in a packed row, a multiple of [`HALF_LINE`].
    pub(crate) at: usize,
}

/// [`Units::half_lines`].
fn half_lines(all: &[Unit]) -> bool {
    let regular = |(u, unit): (usize, &Unit)| {
        unit.first == unit.k.start && unit.steps == (u * HALF_LINE..(u + 1) * HALF_LINE)
    };
    all.len() > 1 && all.iter().enumerate().all(regular)
}

/// What units depend on.
pub(crate) struct UnitShape<'a> {
    pub(crate) k: usize,
    pub(crate) segment: usize,
    /// K-steps of each segment.
    pub(crate) steps: &'a [usize],
    /// Values along K in a k-step.
    pub(crate) kr: usize,
    /// The k-steps that are multiplied together.
    pub(crate) group: usize,
    /// Columns of all panels.
    pub(crate) columns: usize,
    /// Whether columns have offsets.
    pub(crate) offsets: bool,
    /// Whether columns have initial accumulators.
    pub(crate) init: bool,
}

impl Units {
    /// Units of `len` codes, which divides a segment unless there is only one.
    pub(crate) fn new(of: &UnitShape<'_>, len: usize) -> Self {
        let (mut all, mut before) = (Vec::new(), 0);
        for (segment, steps) in of.steps.iter().enumerate() {
            let range = segment * of.segment..of.k.min((segment + 1) * of.segment);
            for start in range.clone().step_by(len.max(1)) {
                let k = start..range.end.min(start + len);
                let together = of.kr * of.group;
                let first = (k.start - range.start) / together * of.group;
                let end = (k.end - range.start).div_ceil(together) * of.group;
                let first_value = range.start + first * of.kr;
                let steps = before + first..before + end;
                all.push(Unit { segment, k, steps, first: first_value, at: 0 });
            }
            before += steps;
        }
        let half_lines = half_lines(&all);
        let (alignment, mut at) = (if half_lines { HALF_LINE } else { Line::STEPS }, 0);
        for unit in &mut all {
            unit.at = at;
            at += unit.steps.len().next_multiple_of(alignment);
        }
        let words = all.len() * of.columns;
        let room = |needed| vec![0; if needed { words } else { 0 }];
        let (offsets, init) = (room(of.offsets), room(of.init));
        Self { len, all, half_lines, lines: at.div_ceil(Line::STEPS), offsets, init }
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.offsets.len() + self.init.len()) * size_of::<i32>()
            + self.all.len() * size_of::<Unit>()
    }

    /// Sets the offsets of a row of codes, `shift` added to each, and its initial accumulators: activations are
    /// unsigned, plus 128, where there are any.
    pub(crate) fn set_sums(
        &mut self,
        row: &[i8],
        shift: i32,
        (panel, column): (usize, usize),
        nr: usize,
    ) {
        let first = panel * self.all.len() * nr + column;
        for (u, unit) in self.all.iter().enumerate() {
            let codes = &row[unit.k.clone()];
            let sum: i32 = codes.iter().map(|code| i32::from(*code)).sum();
            if let Some(offset) = self.offsets.get_mut(first + u * nr) {
                *offset = sum + shift * codes.len() as i32;
            }
            if let Some(init) = self.init.get_mut(first + u * nr) {
                *init = sum.wrapping_mul(-128);
            }
        }
    }
}
