//! The range whose quantized distribution is nearest to that of the values.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Calibration, Histogram};
use crate::scheme::{Grid, Range};

/// The levels that the distribution is reduced to.
const LEVELS: usize = 128;

/// The most bins on one side of zero that are searched; finer histograms are made coarser first.
const HALF_BINS: usize = 1024;

/// Added to bins that are empty, so that no logarithm is of zero.
const SMOOTHING: f64 = 1e-4;

/// The range `±t` for which the distribution of the values, reduced to 128 levels, has the least
/// Kullback-Leibler divergence from what it was; cut off where the values end.
///
/// What lies outside of `±t` is counted in the outermost bins, as saturation does. The candidates
/// and the formula are those of ONNX Runtime's entropy calibration, which took them from TensorRT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntropyCalibration {}

impl Calibration for EntropyCalibration {
    type Observer = Histogram;

    fn name(&self) -> Cow<'static, str> {
        "entropy".into()
    }

    fn observer(&self) -> Histogram {
        Histogram::default()
    }

    fn range(&self, histogram: &Histogram, _grid: Grid) -> Option<Range> {
        let full = histogram.range()?;
        let (counts, width) = centred(histogram);
        let half = counts.len() / 2;
        let best = (LEVELS / 2..=half)
            .map(|reach| (divergence(&counts, half, reach), reach))
            // The first of equals, as the smaller range has the finer steps.
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let threshold = best.map_or(full.magnitude(), |(_, reach)| (reach as f64 * width) as f32);
        Range::new((-threshold).max(full.lo()), threshold.min(full.hi()))
    }
}

/// Counts with as many bins below zero as above, and the width of a bin.
fn centred(histogram: &Histogram) -> (Vec<f64>, f64) {
    let extent = |histogram: &Histogram| {
        let width = histogram.bin_width();
        let ends = histogram.bins().map(|bin| (-bin.start).max(bin.end) / width);
        ends.fold(0.0, f64::max) as usize
    };
    let mut doublings = 0;
    while extent(histogram) >> doublings > HALF_BINS {
        doublings += 1;
    }
    let coarse = histogram.coarser(doublings);
    let (half, width) = (extent(&coarse), coarse.bin_width());
    let mut counts = alloc::vec![0.0; 2 * half];
    for bin in coarse.bins() {
        let at = (bin.start / width) as i64 + half as i64;
        counts[at as usize] += bin.count as f64;
    }
    (counts, width)
}

/// The divergence of the distribution within `reach` bins of the middle, what is outside counted
/// at the ends, from the same reduced to [`LEVELS`] levels.
fn divergence(counts: &[f64], half: usize, reach: usize) -> f64 {
    let (start, end) = (half - reach, half + reach);
    let inside = &counts[start..end];
    let mut reference = inside.to_vec();
    let last = reference.len() - 1;
    reference[0] += counts[..start].iter().sum::<f64>();
    reference[last] += counts[end..].iter().sum::<f64>();
    let reduced = reduce(inside, &reference);
    match (smooth(reference), smooth(reduced)) {
        (Some(p), Some(q)) => kullback_leibler(&p, &q),
        _ => f64::INFINITY,
    }
}

/// In each bin its level's count, divided by the number of the level's bins that have something in
/// `reference`. (Bins that have nothing get as much; so does the implementation this follows.)
fn reduce(inside: &[f64], reference: &[f64]) -> Vec<f64> {
    let merged = inside.len() / LEVELS;
    let mut reduced = alloc::vec![0.0; inside.len()];
    for level in 0..LEVELS {
        let bins = level * merged..(level + 1) * merged;
        // The last level has what is left over; its bins do not.
        let counted = if level + 1 == LEVELS { bins.start..inside.len() } else { bins.clone() };
        let sum: f64 = inside[counted].iter().sum();
        let filled = reference[bins.clone()].iter().filter(|&&count| count != 0.0).count();
        if filled > 0 {
            reduced[bins].fill(sum / filled as f64);
        }
    }
    reduced
}

/// Moves a little from the bins that have something to those that have nothing.
fn smooth(mut counts: Vec<f64>) -> Option<Vec<f64>> {
    let empty = counts.iter().filter(|&&count| count == 0.0).count();
    let filled = counts.len() - empty;
    let taken = SMOOTHING * empty as f64 / filled as f64;
    if filled == 0 || taken >= 1.0 {
        return None;
    }
    for count in &mut counts {
        *count = if *count == 0.0 { SMOOTHING } else { *count - taken };
    }
    Some(counts)
}

fn kullback_leibler(p: &[f64], q: &[f64]) -> f64 {
    let (sum_p, sum_q): (f64, f64) = (p.iter().sum(), q.iter().sum());
    let terms = p.iter().zip(q).map(|(p, q)| (p / sum_p, q / sum_q));
    terms.map(|(p, q)| if p > 0.0 { p * (p / q).ln() } else { 0.0 }).sum()
}
