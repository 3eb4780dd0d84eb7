//! What a page shows of one tensor.

use std::borrow::Cow;

use quant::__private::check_len;
use quant::kernel;
use quant::module::ParamId;
use quant::scheme::{Granularity, QuantParams, QuantizationScheme};
use quant::tensor::{QuantizedTensor, TensorError};

/// The bins of a histogram.
pub(super) const BINS: usize = 80;
/// The most bars of errors by channel.
pub(super) const BARS: usize = 64;
/// The most outliers that are named.
const NAMED: usize = 4;
/// How many standard deviations from the mean an outlier lies.
pub(super) const FAR: f64 = 6.0;

/// What a page shows of one tensor: how its values are distributed, the grid that they were laid
/// on, and what that did to them. It takes less than 4 KiB.
#[derive(Clone, Debug)]
pub struct TensorReport {
    pub(super) id: ParamId,
    pub(super) shape: Vec<usize>,
    pub(super) note: Cow<'static, str>,
    pub(super) bytes_before: u64,
    pub(super) bytes_after: u64,
    pub(super) values: Values,
    pub(super) histogram: Histogram,
    pub(super) quantized: Option<Quantized>,
    pub(super) damage: Option<Damage>,
}

/// Moments and extremes of the finite values.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    pub(super) count: u64,
    pub(super) non_finite: u64,
    pub(super) lo: f32,
    pub(super) hi: f32,
    pub(super) mean: f64,
    pub(super) deviation: f64,
    /// The fourth central moment over the fourth power of the deviation, less 3.
    pub(super) excess_kurtosis: f64,
    pub(super) far: u64,
    /// The values furthest from the mean, furthest first.
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

/// Counts over a range.
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
    /// The levels of the group with the least scale, and of that with the greatest.
    pub(super) finest: Levels,
    pub(super) coarsest: Levels,
}

/// Equally spaced values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Levels {
    pub(super) lo: f64,
    pub(super) hi: f64,
    pub(super) step: f64,
    pub(super) count: u32,
}

/// What quantization did to the values.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    pub(super) signal: f64,
    pub(super) noise: f64,
    pub(super) largest: f32,
    /// Values more than half a step from what their code stands for.
    pub(super) clipped: u64,
    pub(super) channels: Option<Channels>,
}

/// Errors by channel.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    pub(super) axis: usize,
    pub(super) count: usize,
    /// The root of the mean squared error, of the worst channel in each bar.
    pub(super) worst: Vec<f64>,
}

impl Damage {
    /// In decibels; `None` if every value is kept exactly.
    pub(super) fn sqnr_db(&self) -> Option<f64> {
        sqnr_db(self.signal, self.noise)
    }
}

/// Of sums of squares, in decibels; `None` if there is no noise.
pub(super) fn sqnr_db(signal: f64, noise: f64) -> Option<f64> {
    kernel::QuantError { signal, noise, ..Default::default() }.sqnr_db()
}

impl TensorReport {
    /// What becomes of a tensor of this shape, given by its float values in row-major order:
    /// `quantized`, or, without it, the same floats.
    ///
    /// Values that are NaN or infinite are counted, and left out of everything else.
    ///
    /// ```
    /// use quant_formats::report::{Report, TensorReport};
    /// use quant::{MinMaxCalibration, quantize_values};
    ///
    /// let values: Vec<f32> = (0..96).map(|i| (i as f32).sin()).collect();
    /// let scheme = "per-channel-symmetric-int8".parse()?;
    /// let quantized = quantize_values(&[8, 12], &values, scheme, &MinMaxCalibration {})?;
    /// let weight = TensorReport::new("fc.weight", &[8, 12], &values, Some(&quantized))?;
    /// let bias = TensorReport::new("fc.bias", &[8], &[0.0; 8], None)?.note("rank 1");
    /// let mut page = Vec::new();
    /// Report::new("my model", [weight, bias]).write_html(&mut page)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A number of values that is not the product of the shape, or a quantized tensor of another
    /// shape.
    pub fn new(
        id: impl Into<ParamId>,
        shape: &[usize],
        values: &[f32],
        quantized: Option<&QuantizedTensor>,
    ) -> Result<Self, TensorError> {
        check_len(shape, values.len())?;
        match quantized {
            Some(tensor) if tensor.shape() != shape => {
                return Err(TensorError::shape(shape, tensor.shape()));
            }
            _ => {}
        }
        let layout = Layout::of(shape, quantized);
        let damage = quantized.map(|tensor| damage(tensor, values, layout));
        Ok(Self::described(id.into(), shape, values, quantized, damage))
    }

    /// A tensor that is quantized already, whose float values are not at hand: its distribution
    /// is that of what the codes stand for, and there is no error to be shown.
    pub fn of_quantized(id: impl Into<ParamId>, tensor: &QuantizedTensor) -> Self {
        Self::described(id.into(), tensor.shape(), &tensor.dequantize(), Some(tensor), None)
    }

    fn described(
        id: ParamId,
        shape: &[usize],
        values: &[f32],
        tensor: Option<&QuantizedTensor>,
        damage: Option<Damage>,
    ) -> Self {
        let bytes_before = 4 * values.len() as u64;
        let quantized = tensor.and_then(Quantized::new);
        let described = Values::new(values, Layout::of(shape, tensor));
        let histogram = Histogram::new(values, &described, quantized.as_ref());
        Self {
            id,
            shape: shape.into(),
            note: "".into(),
            bytes_before,
            bytes_after: tensor.map_or(bytes_before, |tensor| tensor.byte_count() as u64),
            values: described,
            histogram,
            quantized,
            damage,
        }
    }

    /// A remark: why the tensor stays float, or is quantized as it is.
    #[must_use]
    pub fn note(self, note: impl Into<Cow<'static, str>>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// The bytes before, where they were not 4 for each value. They are the bytes afterwards too
    /// if the tensor is not quantized.
    #[must_use]
    pub fn bytes_before(self, bytes: u64) -> Self {
        let bytes_after = if self.quantized.is_some() { self.bytes_after } else { bytes };
        Self { bytes_before: bytes, bytes_after, ..self }
    }

    /// The path.
    pub fn id(&self) -> &ParamId {
        &self.id
    }

    /// The signal-to-quantization-noise ratio in dB; `None` if the tensor is not quantized, or
    /// every value is kept exactly, or the float values are not at hand.
    pub fn sqnr_db(&self) -> Option<f64> {
        self.damage.as_ref()?.sqnr_db()
    }

    /// The largest absolute error; `None` if there is no error to be known.
    pub fn max_abs_error(&self) -> Option<f32> {
        Some(self.damage.as_ref()?.largest)
    }
}

/// Which elements are a channel: those with the same index along an axis.
#[derive(Clone, Copy)]
struct Layout {
    axis: usize,
    channels: usize,
    /// The elements after the axis.
    inner: usize,
}

impl Layout {
    /// The axis of the scheme, or the first. A tensor of rank 1 or 0 has elements and no channels.
    fn of(shape: &[usize], quantized: Option<&QuantizedTensor>) -> Option<Self> {
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
    fn new(values: &[f32], layout: Option<Layout>) -> Self {
        let finite = || values.iter().filter(|value| value.is_finite());
        let count = finite().count();
        let mut it = Self { count: values.len() as u64, ..Self::default() };
        it.non_finite = it.count - count as u64;
        if count == 0 {
            return it;
        }
        it.lo = finite().copied().fold(f32::INFINITY, f32::min);
        it.hi = finite().copied().fold(f32::NEG_INFINITY, f32::max);
        it.mean = finite().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
        let moment = |square: bool| {
            let square_of = |x: &f32| (f64::from(*x) - it.mean).powi(2);
            let power = |x: f64| if square { x * x } else { x };
            finite().map(|x| power(square_of(x))).sum::<f64>() / count as f64
        };
        let variance = moment(false);
        if variance > 0.0 {
            it.excess_kurtosis = moment(true) / (variance * variance) - 3.0;
            it.deviation = variance.sqrt();
            it.find_outliers(values, layout);
        }
        it
    }

    fn find_outliers(&mut self, values: &[f32], layout: Option<Layout>) {
        let mut least = FAR;
        for (index, &value) in values.iter().enumerate() {
            let distance = (f64::from(value) - self.mean).abs() / self.deviation;
            if !(distance > FAR && value.is_finite()) {
                continue;
            }
            self.far += 1;
            if self.furthest.len() == NAMED && distance <= least {
                continue;
            }
            let channel = layout.map(|layout| layout.channel_of(index));
            let place = self.furthest.partition_point(|it| it.distance >= distance);
            self.furthest.insert(place, Outlier { value, distance, index, channel });
            self.furthest.truncate(NAMED);
            least = self.furthest.last().map_or(FAR, |it| it.distance);
        }
    }
}

impl Histogram {
    /// Counts over the range of the values, and that of the codes as far as it is not much wider.
    fn new(values: &[f32], described: &Values, quantized: Option<&Quantized>) -> Self {
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
    /// `None` if the tensor has no groups, and so no elements.
    fn new(tensor: &QuantizedTensor) -> Option<Self> {
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

fn damage(tensor: &QuantizedTensor, values: &[f32], layout: Option<Layout>) -> Damage {
    let codes = tensor.codes();
    let mut damage = Damage { signal: 0.0, noise: 0.0, largest: 0.0, clipped: 0, channels: None };
    // Without channels, one for all of them.
    let (channels, inner) = layout.map_or((1, values.len()), |it| (it.channels, it.inner));
    let mut noise = vec![0.0; channels];
    for run in tensor.groups().runs() {
        let params = tensor.params(run.index);
        let mut start = run.elements.start;
        while start < run.elements.end {
            let end = run.elements.end.min((start / inner + 1) * inner);
            noise[start / inner % channels] +=
                damage.add(&values[start..end], &codes[start..end], params);
            start = end;
        }
    }
    damage.noise = noise.iter().sum();
    damage.channels = layout.map(|layout| Channels::new(layout, &noise, values.len()));
    damage
}

impl Damage {
    /// Adds a run of one group and channel, and returns its squared error.
    fn add(&mut self, values: &[f32], codes: &[i8], params: QuantParams) -> f64 {
        let mut noise = 0.0;
        // A little more than half a step, which rounding may reach.
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

#[cfg(test)]
mod tests {
    use super::*;
    use quant::calibration::MinMaxCalibration;
    use quant::quantize::quantize_values;

    #[test]
    fn a_report_keeps_less_than_four_kibibytes() {
        let mut values: Vec<f32> = (0..512 * 64).map(|i| (i as f32).sin() / 9.0).collect();
        (0..99).for_each(|i| values[i * 300] = i as f32);
        let scheme = "per-channel-symmetric-int8".parse().unwrap();
        let quantized =
            quantize_values(&[512, 64], &values, scheme, &MinMaxCalibration {}).unwrap();
        let report = TensorReport::new("w", &[512, 64], &values, Some(&quantized)).unwrap();
        let channels = report.damage.as_ref().unwrap().channels.as_ref().unwrap();
        let heap = size_of_val(&report.histogram.bins[..])
            + size_of_val(&channels.worst[..])
            + size_of_val(&report.values.furthest[..]);
        assert_eq!((channels.worst.len(), report.values.furthest.len()), (BARS, NAMED));
        assert!(size_of::<TensorReport>() + heap < 4096 - 1024, "room for a name and a note");
    }
}
