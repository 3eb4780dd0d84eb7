//! Statistics of one tensor and of its quantization.

use quant::QuantizationScheme;
use quant::scheme::{Granularity, QuantParams};
use quant::tensor::QuantizedTensor;

/// The bins of a histogram.
pub(super) const BINS: usize = 80;
/// The most bars of errors by channel.
pub(super) const BARS: usize = 64;
/// The most outliers that are listed.
pub(super) const LISTED: usize = 4;
/// The distance of an outlier from the mean, in standard deviations.
pub(super) const OUTLIER_DEVIATIONS: f64 = 6.0;

/// Statistics of the finite values.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    pub(super) count: u64,
    pub(super) non_finite: u64,
    pub(super) lo: f32,
    pub(super) hi: f32,
    pub(super) mean: f64,
    pub(super) deviation: f64,
    /// The fourth central moment divided by the fourth power of the deviation, minus 3.
    pub(super) excess_kurtosis: f64,
    /// The number of values beyond [`OUTLIER_DEVIATIONS`].
    pub(super) outliers: u64,
    /// Some outliers, the furthest from the mean first.
    pub(super) furthest: Vec<Outlier>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Outlier {
    pub(super) value: f32,
    /// The distance from the mean in standard deviations.
    pub(super) distance: f64,
    pub(super) index: usize,
    pub(super) channel: Option<usize>,
}

/// Counts of values in bins of equal width.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    pub(super) lo: f64,
    pub(super) hi: f64,
    pub(super) bins: Vec<u64>,
}

/// How a tensor is quantized.
#[derive(Clone, Debug)]
pub(super) struct Quantized {
    pub(super) scheme: QuantizationScheme,
    pub(super) groups: usize,
    /// The levels of the groups with the least and the greatest scale.
    pub(super) finest: Levels,
    pub(super) coarsest: Levels,
}

/// The values that codes represent: equally spaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Levels {
    pub(super) lo: f64,
    pub(super) hi: f64,
    pub(super) step: f64,
    pub(super) count: u32,
}

/// The quantization error.
#[derive(Clone, Debug)]
pub(super) struct QuantError {
    pub(super) signal: f64,
    pub(super) noise: f64,
    pub(super) largest: f32,
    /// The number of values beyond the range of their group.
    pub(super) clipped: u64,
    pub(super) channels: Option<Channels>,
}

/// Errors by channel.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    pub(super) axis: usize,
    pub(super) count: usize,
    /// The root mean square error of the worst channel of each bar.
    pub(super) worst: Vec<f64>,
}

impl QuantError {
    /// The signal-to-noise ratio in dB; `None` if every value is exact.
    pub(super) fn sqnr_db(&self) -> Option<f64> {
        sqnr_db(self.signal, self.noise)
    }
}

/// The signal-to-noise ratio of sums of squares in dB; `None` without noise.
pub(super) fn sqnr_db(signal: f64, noise: f64) -> Option<f64> {
    quant::kernel::QuantError { signal, noise, ..Default::default() }.sqnr_db()
}

/// The channels of a tensor: elements with the same index along an axis.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    axis: usize,
    channels: usize,
    /// The product of the extents after the axis.
    inner: usize,
}

impl Layout {
    /// Channels along the axis of the scheme, or the first; `None` below rank 2.
    pub(super) fn of(shape: &[usize], quantized: Option<&QuantizedTensor>) -> Option<Self> {
        if shape.len() < 2 || shape.contains(&0) {
            return None;
        }
        let axis = match quantized.map(|tensor| tensor.scheme().granularity()) {
            Some(Granularity::PerChannel(axis)) => axis.resolve(shape.len())?,
            _ => 0,
        };
        Some(Self { axis, channels: shape[axis], inner: shape[axis + 1..].iter().product() })
    }

    fn channel_of(self, index: usize) -> usize {
        index / self.inner % self.channels
    }
}

impl Values {
    pub(super) fn new(values: &[f32], layout: Option<Layout>) -> Self {
        let finite = || values.iter().filter(|value| value.is_finite());
        let count = finite().count();
        let mut stats = Self { count: values.len() as u64, ..Self::default() };
        stats.non_finite = stats.count - count as u64;
        if count == 0 {
            return stats;
        }
        stats.lo = finite().copied().fold(f32::INFINITY, f32::min);
        stats.hi = finite().copied().fold(f32::NEG_INFINITY, f32::max);
        stats.mean = finite().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
        let moment = |square: bool| {
            let square_of = |x: &f32| (f64::from(*x) - stats.mean).powi(2);
            let power = |x: f64| if square { x * x } else { x };
            finite().map(|x| power(square_of(x))).sum::<f64>() / count as f64
        };
        let variance = moment(false);
        if variance > 0.0 {
            stats.excess_kurtosis = moment(true) / (variance * variance) - 3.0;
            stats.deviation = variance.sqrt();
            stats.find_outliers(values, layout);
        }
        stats
    }

    fn find_outliers(&mut self, values: &[f32], layout: Option<Layout>) {
        let mut least = OUTLIER_DEVIATIONS;
        for (index, &value) in values.iter().enumerate() {
            let distance = (f64::from(value) - self.mean).abs() / self.deviation;
            if !(distance > OUTLIER_DEVIATIONS && value.is_finite()) {
                continue;
            }
            self.outliers += 1;
            if self.furthest.len() == LISTED && distance <= least {
                continue;
            }
            let channel = layout.map(|layout| layout.channel_of(index));
            let place = self.furthest.partition_point(|it| it.distance >= distance);
            self.furthest.insert(place, Outlier { value, distance, index, channel });
            self.furthest.truncate(LISTED);
            least = self.furthest.last().map_or(OUTLIER_DEVIATIONS, |it| it.distance);
        }
    }
}

impl Histogram {
    /// Bins over the range of the values, widened by up to a quarter for the range of the codes.
    pub(super) fn new(values: &[f32], described: &Values, quantized: Option<&Quantized>) -> Self {
        let (mut lo, mut hi) = (f64::from(described.lo), f64::from(described.hi));
        if lo == hi {
            let room = if lo == 0.0 { 1.0 } else { lo.abs() / 2.0 };
            (lo, hi) = (lo - room, hi + room);
        }
        if let Some(Quantized { coarsest, .. }) = quantized {
            let room = (hi - lo) / 4.0;
            (lo, hi) = (coarsest.lo.clamp(lo - room, lo), coarsest.hi.clamp(hi, hi + room));
        }
        let mut bins = vec![0; BINS];
        let per_unit = BINS as f64 / (hi - lo);
        for &value in values.iter().filter(|value| value.is_finite()) {
            let bin = (f64::from(value) - lo) * per_unit;
            bins[(bin as usize).min(BINS - 1)] += 1;
        }
        Self { lo, hi, bins }
    }
}

impl Quantized {
    /// `None` for a tensor without elements.
    pub(super) fn new(tensor: &QuantizedTensor) -> Option<Self> {
        let scales = || tensor.scales().iter().copied().enumerate();
        let (finest, _) = scales().min_by(|a, b| a.1.total_cmp(&b.1))?;
        let (coarsest, _) = scales().max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Self {
            scheme: tensor.scheme(),
            groups: tensor.scales().len(),
            finest: Levels::new(tensor.scheme(), tensor.params(finest)),
            coarsest: Levels::new(tensor.scheme(), tensor.params(coarsest)),
        })
    }
}

impl Levels {
    fn new(scheme: QuantizationScheme, params: QuantParams) -> Self {
        let (qmin, qmax) = scheme.grid().code_range();
        let step = f64::from(params.scale());
        let value = |code: i32| f64::from(code - i32::from(params.zero_point())) * step;
        Self { lo: value(qmin), hi: value(qmax), step, count: (qmax - qmin + 1) as u32 }
    }
}

pub(super) fn quant_error(
    tensor: &QuantizedTensor,
    values: &[f32],
    layout: Option<Layout>,
) -> QuantError {
    let codes = tensor.codes();
    let mut total =
        QuantError { signal: 0.0, noise: 0.0, largest: 0.0, clipped: 0, channels: None };
    // Without channels, all elements are one.
    let (channels, inner) = layout.map_or((1, values.len()), |it| (it.channels, it.inner));
    let mut noise = vec![0.0; channels];
    for run in tensor.groups().runs() {
        let params = tensor.params(run.index);
        let mut start = run.elements.start;
        while start < run.elements.end {
            let end = run.elements.end.min((start / inner + 1) * inner);
            noise[start / inner % channels] +=
                total.add(&values[start..end], &codes[start..end], params);
            start = end;
        }
    }
    total.noise = noise.iter().sum();
    total.channels = layout.map(|layout| Channels::new(layout, &noise, values.len()));
    total
}

impl QuantError {
    /// Adds a run of one group and channel, and returns its squared error.
    fn add(&mut self, values: &[f32], codes: &[i8], params: QuantParams) -> f64 {
        let mut noise = 0.0;
        // Rounding errors reach half of the scale, up to the precision of f32.
        let half = params.scale() * 0.5001;
        for (&value, &code) in values.iter().zip(codes).filter(|(value, _)| value.is_finite()) {
            let error = (value - params.dequantize(code)).abs();
            self.signal += f64::from(value) * f64::from(value);
            noise += f64::from(error) * f64::from(error);
            self.largest = self.largest.max(error);
            self.clipped += u64::from(error > half);
        }
        noise
    }
}

impl Channels {
    fn new(layout: Layout, noise: &[f64], elements: usize) -> Self {
        let per_channel = (elements / layout.channels) as f64;
        let bars = layout.channels.min(BARS);
        let mut worst = vec![0.0f64; bars];
        for (channel, noise) in noise.iter().enumerate() {
            let bar = &mut worst[channel * bars / layout.channels];
            *bar = bar.max((noise / per_channel).sqrt());
        }
        Self { axis: layout.axis, count: layout.channels, worst }
    }
}
