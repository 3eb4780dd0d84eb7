//! The range whose quantized distribution is nearest to that of the values.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Calibration, Histogram};
use crate::scheme::{Grid, Range};

/// The levels that the distribution is reduced to.
const LEVELS: usize = 128;

/// The values that a group of a weight must have: two for each level.
///
/// Counts of fewer values are no distribution. For normal values the search then finds a range that is
/// worse than that of the least and greatest value, whatever the number of bits, at a cost of 18 ms for
/// each group: hours for a model in blocks of 32.
const LEAST_VALUES: usize = 2 * LEVELS;

/// The bins that are searched, half of them below zero.
const BINS: usize = 2048;

/// The bin that begins at zero.
const ZERO: usize = BINS / 2;

/// Added to bins that are empty, so that no logarithm is of zero.
const SMOOTHING: f64 = 1e-4;

/// The range `±t` with the least Kullback-Leibler divergence between the distribution of the values
/// and the same distribution reduced to 128 levels. The range ends where the values end.
///
/// Values outside of `±t` count in the outermost bins, as saturation would put them there. Bins,
/// candidates and formula are those of ONNX Runtime's entropy calibration, which follows `TensorRT`:
/// 2,048 bins over the largest magnitude, with the bin that begins at zero in the middle. The range
/// therefore reaches one bin farther above zero than below.
///
/// The search takes about 18 ms for each group of a weight, and groups of fewer than 256 values are an error:
/// take [`MseCalibration`](super::MseCalibration) for them.
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
        let counts = centred(histogram, full.magnitude());
        let best = (LEVELS / 2..=ZERO)
            .map(|reach| (divergence(&counts, reach), reach))
            // Among equals the first: a smaller range has smaller steps.
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let (start, end) = best.map_or((0, BINS), |(_, reach)| window(reach));
        let edge =
            |bin: usize| (f64::from(full.magnitude()) * (bin as f64 / ZERO as f64 - 1.0)) as f32;
        Range::new(edge(start).max(full.lo()), edge(end).min(full.hi()))
    }

    fn least_values(&self) -> usize {
        LEAST_VALUES
    }
}

/// The first bin that is within `reach` bins of zero, and the one after the last.
fn window(reach: usize) -> (usize, usize) {
    (ZERO - reach, (ZERO + reach + 1).min(BINS))
}

/// Counts in bins from `-magnitude` to `magnitude`.
///
/// A bin of the histogram, which has up to eight times as many, counts where it begins.
fn centred(histogram: &Histogram, magnitude: f32) -> Vec<f64> {
    let mut counts = alloc::vec![0.0; BINS];
    let magnitude = f64::from(magnitude);
    for bin in histogram.bins().filter(|bin| bin.count > 0) {
        // Multiply first, so that a quotient that is a whole number is exact.
        let at = (bin.start + magnitude) * ZERO as f64 / magnitude;
        // The lowest bin may begin below the least value; with nothing but zeros `at` is NaN.
        // The cast takes both to the first bin.
        counts[(at as usize).min(BINS - 1)] += bin.count as f64;
    }
    counts
}

/// The divergence between the distribution within `reach` bins of the middle, with the rest counted
/// at its ends, and the same distribution reduced to [`LEVELS`] levels.
fn divergence(counts: &[f64], reach: usize) -> f64 {
    let (start, end) = window(reach);
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

/// For each bin: the count of its level, divided by the number of the level's bins that are not
/// empty in `reference`, rounded down. Empty bins get the same share, as in ONNX Runtime.
fn reduce(inside: &[f64], reference: &[f64]) -> Vec<f64> {
    let merged = inside.len() / LEVELS;
    let mut reduced = alloc::vec![0.0; inside.len()];
    for level in 0..LEVELS {
        let bins = level * merged..(level + 1) * merged;
        // The last level also counts the remaining bins, which get no share.
        let counted = if level + 1 == LEVELS { bins.start..inside.len() } else { bins.clone() };
        let sum: f64 = inside[counted].iter().sum();
        let filled = reference[bins.clone()].iter().filter(|&&count| count != 0.0).count();
        if filled > 0 {
            reduced[bins].fill((sum / filled as f64).floor());
        }
    }
    reduced
}

/// Moves a little from the bins that are not empty to the empty ones.
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
