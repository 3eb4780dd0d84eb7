//! Pictures: SVG paths in boxes that the page stretches to its width.
//!
//! Text must not be stretched: it is HTML, beside the pictures.

use std::fmt;

use super::measure::{Channels, Histogram, Levels};
use super::text::Rounded;

/// The height of the box of bars; its width is their number.
pub(super) const HEIGHT: u32 = 100;
/// The width of a box with a grid.
pub(super) const WIDTH: u32 = 800;
/// The most levels of a grid over a histogram: more would hide it.
const MAX_GRID_LEVELS: u32 = 33;

/// The outline of a histogram, with the logarithm of `1 + count` as the height.
pub(super) struct Outline<'a>(pub(super) &'a Histogram);

impl fmt::Display for Outline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.0.bins.iter().copied().max().unwrap_or(0).max(1);
        let per_unit = f64::from(HEIGHT) / (most as f64).ln_1p();
        // Most bins of a small tensor are empty, and logarithms take time.
        let height = |count: u64| if count == 0 { 0.0 } else { per_unit * (count as f64).ln_1p() };
        steps(f, self.0.bins.iter().map(|&count| height(count)))
    }
}

/// The outline of bars whose height is the error.
pub(super) struct Bars<'a>(pub(super) &'a Channels);

impl fmt::Display for Bars<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.0.worst.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        steps(f, self.0.worst.iter().map(|error| f64::from(HEIGHT) * error / most))
    }
}

/// The outline of bars of width 1.
fn steps(f: &mut fmt::Formatter<'_>, heights: impl Iterator<Item = f64>) -> fmt::Result {
    write!(f, "M0 {HEIGHT}")?;
    let (mut end, mut last) = (0, None);
    for height in heights {
        let top = (f64::from(HEIGHT) - height).round() as i64;
        if last != Some(top) {
            if end > 0 {
                write!(f, "H{end}")?;
            }
            write!(f, "V{top}")?;
            last = Some(top);
        }
        end += 1;
    }
    write!(f, "H{end}V{HEIGHT}z")
}

/// The levels of a grid as ticks: one dashed line, as thick as the ticks are high.
pub(super) struct Ticks<'a> {
    pub(super) levels: Levels,
    pub(super) over: &'a Histogram,
    /// The vertical center and the height of the ticks.
    pub(super) y: u32,
    pub(super) height: u32,
    pub(super) class: &'static str,
}

impl fmt::Display for Ticks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = f64::from(WIDTH);
        let per_unit = width / (self.over.hi - self.over.lo);
        let step = self.levels.step * per_unit;
        // Ticks outside the picture are not drawn: a grid may be much wider.
        let before = ((self.over.lo - self.levels.lo) / self.levels.step).ceil().max(0.0);
        let first = (self.levels.lo - self.over.lo) * per_unit + before * step;
        let last = ((self.levels.hi - self.over.lo) * per_unit).min(width);
        if !(first <= last && first.is_finite() && step.is_finite()) {
            return Ok(());
        }
        let thick = (step / 3.0).clamp(0.4, 1.5);
        let (from, to) = (first - thick / 2.0, last + thick / 2.0);
        let (y, height, class) = (self.y, self.height, self.class);
        write!(f, "<path class={class} stroke-width={height} ")?;
        // Without gaps between the ticks, the line is solid.
        if step > thick {
            let (thick, gap) = (Rounded(thick, 2), Rounded(step - thick, 4));
            write!(f, "stroke-dasharray=\"{thick} {gap}\" ")?;
        }
        write!(f, "d=\"M{} {y}H{}\"/>", Rounded(from, 2), Rounded(to, 2))
    }
}

/// The grid of a histogram's height, unless it has too many levels.
pub(super) fn grid_over(histogram: &Histogram, levels: Levels) -> Option<Ticks<'_>> {
    let y = HEIGHT / 2;
    (levels.count <= MAX_GRID_LEVELS).then_some(Ticks {
        levels,
        over: histogram,
        y,
        height: HEIGHT,
        class: "g",
    })
}

/// Lines at zero and at the least and the greatest level.
pub(super) struct Marks<'a> {
    pub(super) over: &'a Histogram,
    pub(super) levels: Option<Levels>,
}

impl fmt::Display for Marks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Histogram { lo, hi, .. } = *self.over;
        let zero = (0.0, "z");
        let ends = self.levels.map(|levels| [(levels.lo, "e"), (levels.hi, "e")]);
        for (value, class) in [zero].into_iter().chain(ends.into_iter().flatten()) {
            if (lo..=hi).contains(&value) {
                let x = Rounded((value - lo) / (hi - lo) * f64::from(WIDTH), 1);
                write!(f, "<path class={class} d=\"M{x} 0V{HEIGHT}\"/>")?;
            }
        }
        Ok(())
    }
}
