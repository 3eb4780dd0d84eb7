//! Observers against those of torch and ONNX Runtime.

use quant::QuantizationType;
use quant::calibration::{
    Calibration, EntropyCalibration, Histogram, MovingAverageCalibration, Observer,
    PercentileCalibration,
};
use quant::scheme::{Grid, Mapping, ScaleType};
use serde_json::Value;
use tests::golden::{float, floats, ints, rows, ulps};

fn grid(mapping: Mapping) -> Grid {
    Grid::new(QuantizationType::QInt8, mapping, ScaleType::F32)
}

#[test]
fn golden_torch_moving_averages_agree_within_two_ulps() {
    for row in rows("torch.json", "moving_average_min_max") {
        let constant = float(&row["averaging_constant"]);
        let mut observer = MovingAverageCalibration::new(constant).unwrap().observer();
        for batch in row["batches"].as_array().unwrap() {
            observer.observe(&floats(batch)).unwrap();
        }
        let (lo, hi) = observer.averages().unwrap();
        assert!(ulps(lo, float(&row["min"])) <= 2, "{lo} {row}");
        assert!(ulps(hi, float(&row["max"])) <= 2, "{hi} {row}");
    }
}

/// A sample of the reference file, sorted.
fn sample(row: &Value) -> Vec<f32> {
    let (values, counts) = (floats(&row["distinct_values"]), ints::<usize>(&row["counts"]));
    let mut sample: Vec<f32> =
        values.into_iter().zip(counts).flat_map(|(x, n)| std::iter::repeat_n(x, n)).collect();
    sample.sort_by(f32::total_cmp);
    sample
}

fn histogram(sample: &[f32]) -> Histogram {
    let mut histogram = Histogram::default();
    histogram.observe(sample).unwrap();
    histogram
}

/// ONNX Runtime's own percentiles are up to a hundred of its bins away from the order statistic
/// (−3.36 where it is −3.17), so its samples are taken and its thresholds are not.
#[test]
fn golden_onnxruntime_percentiles_are_within_a_bin_of_the_order_statistic() {
    for row in rows("onnxruntime.json", "histogram_calibrators") {
        let sample = sample(&row);
        let histogram = histogram(&sample);
        let bin = histogram.bin_width() as f32;
        for (name, percentile, per_100_000) in [("99.9", 99.9, 100), ("99.999", 99.999, 1)] {
            let calibration = PercentileCalibration::new(percentile).unwrap();
            let outside = |sides: usize| per_100_000 * sample.len() / (100_000 * sides);

            let range = calibration.range(&histogram, grid(Mapping::Affine)).unwrap();
            let (lo, hi) = (sample[outside(2)], sample[sample.len() - 1 - outside(2)]);
            assert!((range.lo() - lo.min(0.0)).abs() <= bin, "{name} {range:?} {lo}");
            assert!((range.hi() - hi.max(0.0)).abs() <= bin, "{name} {range:?} {hi}");
            let range = calibration.range(&histogram, grid(Mapping::Symmetric)).unwrap();
            let mut magnitudes: Vec<f32> = sample.iter().map(|x| x.abs()).collect();
            magnitudes.sort_by(|a, b| b.total_cmp(a));
            let threshold = magnitudes[outside(1)];
            assert!((range.magnitude() - threshold).abs() <= bin, "{name} {range:?} {threshold}");
        }
    }
}

#[test]
fn golden_onnxruntime_entropy_is_within_two_bins_or_nearer() {
    for row in rows("onnxruntime.json", "histogram_calibrators") {
        let sample = sample(&row);
        let reference = Reference::new(&sample);
        let name = &row["name"];
        for (column, mapping) in
            [("entropy_symmetric", Mapping::Symmetric), ("entropy_asymmetric", Mapping::Affine)]
        {
            let theirs = reference.reach_of(&floats(&row[column]));
            let least = reference.divergence(theirs);
            // The formula is theirs, or the comparison below would mean nothing. (Theirs is in
            // f32, which on a plateau picks another bin.)
            assert!(least <= reference.least() * (1.0 + 1e-5), "{column} of {name}");
            let range = EntropyCalibration {}.range(&histogram(&sample), grid(mapping)).unwrap();
            let ours = reference.reach_of(&[range.lo(), range.hi()]);
            let kl = reference.divergence(ours);
            eprintln!("{name}: {theirs} bins, KL {least:.9}; ours {ours} bins, KL {kl:.9}");
            assert!(ours.abs_diff(theirs) <= 2 || kl < least, "{name}: {range:?}");
        }
    }
}

const BINS: usize = 2048;
const ZERO: usize = BINS / 2;
const LEVELS: usize = 128;

/// ONNX Runtime's entropy calibration as it is written there: 2,048 bins over ±max |x|.
struct Reference {
    counts: Vec<f64>,
    magnitude: f64,
}

impl Reference {
    fn new(sorted: &[f32]) -> Self {
        let magnitude = f64::from(sorted[0].abs().max(sorted[sorted.len() - 1].abs()));
        let mut counts = vec![0.0; BINS];
        for &x in sorted {
            let bin = (f64::from(x) + magnitude) * ZERO as f64 / magnitude;
            counts[(bin as usize).min(BINS - 1)] += 1.0;
        }
        Self { counts, magnitude }
    }

    /// How many bins a range reaches below zero: what stands above is one bin more.
    fn reach_of(&self, range: &[f32]) -> usize {
        let magnitude = f64::from(range[1].max(-range[0]));
        let above = magnitude == f64::from(range[1]) && magnitude < self.magnitude;
        let bins = (magnitude / self.magnitude * ZERO as f64).round() as usize;
        (bins - usize::from(above)).clamp(LEVELS / 2, ZERO)
    }

    fn least(&self) -> f64 {
        let all = (LEVELS / 2..=ZERO).map(|reach| self.divergence(reach));
        all.fold(f64::INFINITY, f64::min)
    }

    fn divergence(&self, reach: usize) -> f64 {
        let (start, end) = (ZERO - reach, (ZERO + reach + 1).min(BINS));
        let inside = &self.counts[start..end];
        let mut p = inside.to_vec();
        p[0] += self.counts[..start].iter().sum::<f64>();
        *p.last_mut().unwrap() += self.counts[end..].iter().sum::<f64>();

        let merged = inside.len() / LEVELS;
        let mut q = vec![0.0; p.len()];
        for level in 0..LEVELS {
            let (from, to) = (level * merged, (level + 1) * merged);
            let last = if level + 1 == LEVELS { inside.len() } else { to };
            let sum: f64 = inside[from..last].iter().sum();
            let filled = p[from..to].iter().filter(|&&count| count != 0.0).count();
            if filled != 0 {
                // An array of integers there, so the quotient is cut off.
                q[from..to].fill((sum / filled as f64).floor());
            }
        }
        match (smooth(p), smooth(q)) {
            (Some(p), Some(q)) => entropy(&p, &q),
            _ => f64::INFINITY,
        }
    }
}

fn smooth(counts: Vec<f64>) -> Option<Vec<f64>> {
    let empty = counts.iter().filter(|&&count| count == 0.0).count() as f64;
    let filled = counts.len() as f64 - empty;
    let taken = 1e-4 * empty / filled;
    let moved = |count| if count == 0.0 { 1e-4 } else { count - taken };
    (filled > 0.0).then(|| counts.into_iter().map(moved).collect())
}

/// `scipy.stats.entropy(p, q)`.
fn entropy(p: &[f64], q: &[f64]) -> f64 {
    let (p_sum, q_sum): (f64, f64) = (p.iter().sum(), q.iter().sum());
    p.iter().zip(q).map(|(p, q)| p / p_sum * (p / p_sum / (q / q_sum)).ln()).sum()
}
