//! How much better scales along another axis of a parameter would be.
//!
//! Groups that hold large and small values have a scale that fits the large ones. The spread of an axis
//! is how far the largest of its channels is above a usual one:
//!
//! ```text
//! spread(a) = 20 log10(max_c m_c / median_c m_c)     m_c: the greatest magnitude in channel c, not 0
//! ```
//!
//! Scales along an axis take the spread of that axis away and leave that of all others, so that a usual
//! value gains `spread(a) - Σ spread(b)` in dB by scales along `a` in place of those along the axes `b`.

use alloc::vec::Vec;
use core::ops::Range;

use super::outcome::Warning;
use crate::kernel::Kernel;
use crate::scheme::{Axis, Granularity, QuantizationScheme};

/// The gain in dB from which on a plan points it out.
const LEAST_GAIN: f64 = 20.0;

/// An axis is measured if it has at least so many channels, of at least so many elements each. Fewer
/// have no usual one, or take as much for scales as for codes.
const CHANNELS: usize = 16;
const ELEMENTS: usize = 16;

/// At least so many rows are a sample of more.
const ROWS: usize = 256;

/// The greatest magnitudes of the channels of a part, along each axis that is measured.
#[derive(Clone, Debug)]
pub(super) struct Spread(Vec<Along>);

/// Those along one axis.
#[derive(Clone, Debug)]
struct Along {
    axis: usize,
    /// The position of the first channel of which there are elements.
    first: usize,
    maxima: Vec<f32>,
}

impl Spread {
    /// Of the part with these values that starts at the element `at` of a tensor of this shape; `None` if
    /// there is nothing to compare.
    pub(super) fn of(
        shape: &[usize],
        scheme: QuantizationScheme,
        at: usize,
        values: &[f32],
    ) -> Option<Self> {
        let covered = covered(shape, scheme)?;
        if measured(shape).all(|axis| covered.contains(&axis)) {
            return None;
        }
        let of = |axis| Along::of(shape, axis, at, values);
        Some(Self(measured(shape).map(of).collect()))
    }

    /// As [`of`](Self::of), and `None` for a whole tensor that is even along the axes without scales: most
    /// are, and a gain is at most a spread of these.
    pub(super) fn unless_even(
        shape: &[usize],
        scheme: QuantizationScheme,
        at: usize,
        values: &[f32],
    ) -> Option<Self> {
        let covered = covered(shape, scheme)?;
        let is_even = |axis| Along::of(shape, axis, at, values).decibels() < LEAST_GAIN;
        let is_whole = values.len() == shape.iter().product::<usize>();
        if is_whole && measured(shape).filter(|axis| !covered.contains(axis)).all(is_even) {
            return None;
        }
        Self::of(shape, scheme, at, values)
    }

    /// The spread of this part and of the next one.
    pub(super) fn and(mut self, next: Self) -> Self {
        for (along, next) in self.0.iter_mut().zip(next.0) {
            along.add(next);
        }
        self
    }

    /// The axis whose channels would be better than `scheme`, if one is by far.
    pub(super) fn warning(&self, shape: &[usize], scheme: QuantizationScheme) -> Option<Warning> {
        let covered = covered(shape, scheme)?;
        let (now, others): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|along| covered.contains(&along.axis));
        let lost: f64 = now.iter().map(|along| along.decibels()).sum();
        let gains = others.into_iter().map(|along| (along.axis, along.decibels() - lost));
        let (axis, gain) = gains.max_by(|a, b| a.1.total_cmp(&b.1))?;
        // Codes have no more to gain than what they can tell apart.
        let most = 20.0 * f64::from(1u32 << scheme.quantization_type().bits()).log10();
        let gain_db = gain.min(most) as u32;
        (gain >= LEAST_GAIN && most >= LEAST_GAIN).then_some(Warning::OtherAxis { axis, gain_db })
    }
}

impl Along {
    fn of(shape: &[usize], axis: usize, at: usize, values: &[f32]) -> Self {
        let (channels, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
        if inner == 1 {
            return Self::last(axis, channels, shape, at, values);
        }
        let touched = touched(channels, at / inner..(at + values.len()).div_ceil(inner));
        let mut maxima = alloc::vec![0.0; touched.len()];
        let (mut channel, mut rest) = (at / inner % channels, values);
        // The first run may be the rest of one.
        let mut len = inner - at % inner;
        while !rest.is_empty() {
            let (run, after) = rest.split_at(len.min(rest.len()));
            let max: &mut f32 = &mut maxima[channel - touched.start];
            *max = larger(*max, greatest_magnitude(run));
            channel = if channel + 1 == channels { 0 } else { channel + 1 };
            (rest, len) = (after, inner);
        }
        Self { axis, first: touched.start, maxima }
    }

    /// Along the last axis, of which a part has whole rows. A sample of the rows of the tensor is enough:
    /// a column that is large in few of them does not make scales for others.
    fn last(axis: usize, channels: usize, shape: &[usize], at: usize, values: &[f32]) -> Self {
        let rows: usize = shape[..axis].iter().product();
        let each = (rows / ROWS).max(1);
        let first = (at / channels).next_multiple_of(each) - at / channels;
        let mut maxima = alloc::vec![0.0; channels];
        for row in values.chunks(channels).skip(first).step_by(each) {
            for (max, value) in maxima.iter_mut().zip(row) {
                *max = larger(*max, value.abs());
            }
        }
        Self { axis, first: 0, maxima }
    }

    fn add(&mut self, next: Self) {
        let first = self.first.min(next.first);
        let end = (self.first + self.maxima.len()).max(next.first + next.maxima.len());
        if first < self.first {
            self.maxima.splice(0..0, core::iter::repeat_n(0.0, self.first - first));
        }
        self.maxima.resize(end - first, 0.0);
        self.first = first;
        let from = next.first - first;
        for (max, other) in self.maxima[from..].iter_mut().zip(next.maxima) {
            *max = larger(*max, other);
        }
    }

    /// The spread; 0 if all channels are 0.
    fn decibels(&self) -> f64 {
        let mut maxima: Vec<f32> = self.maxima.iter().copied().filter(|&max| max > 0.0).collect();
        let Some(middle) = maxima.len().checked_sub(1).map(|last| last / 2) else { return 0.0 };
        let (_, &mut median, above) = maxima.select_nth_unstable_by(middle, f32::total_cmp);
        let greatest = above.iter().copied().fold(median, larger);
        20.0 * (f64::from(greatest) / f64::from(median)).log10()
    }
}

/// The axes that are measured.
fn measured(shape: &[usize]) -> impl Iterator<Item = usize> {
    let count: usize = shape.iter().product();
    let is_measured = move |axis: &usize| {
        let channels = shape[*axis];
        channels >= CHANNELS && count / channels >= ELEMENTS
    };
    (0..shape.len()).filter(is_measured)
}

/// The axes along which `scheme` has scales of their own; `None` for blocks within rows, which have one
/// for a few values.
fn covered(shape: &[usize], scheme: QuantizationScheme) -> Option<Range<usize>> {
    let last = shape.len().checked_sub(1)?;
    match scheme.granularity() {
        Granularity::PerTensor => Some(0..0),
        Granularity::PerChannel(axis) => axis.resolve(shape.len()).map(|axis| axis..axis + 1),
        Granularity::PerBlock(block) if block.len() >= shape[last] => Some(0..last),
        _ => None,
    }
}

/// The channels of these runs, which go through all channels in turn; all of them if the runs come to
/// the last one and go on with the first.
fn touched(channels: usize, runs: Range<usize>) -> Range<usize> {
    if runs.is_empty() {
        return 0..0;
    }
    let (first, last) = (runs.start, runs.end - 1);
    if first / channels == last / channels {
        first % channels..last % channels + 1
    } else {
        0..channels
    }
}

/// Of finite values.
fn greatest_magnitude(values: &[f32]) -> f32 {
    /// Fewer are not worth the call of a kernel.
    const MANY: usize = 64;
    if values.len() >= MANY
        && let Ok((lo, hi)) = Kernel::current().min_max(values)
    {
        return larger(-lo, hi);
    }
    values.iter().map(|value| value.abs()).fold(0.0, larger)
}

/// As `f32::max` of what is not NaN, in one instruction.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The scheme with a scale for each channel along this axis.
pub(super) fn along(scheme: QuantizationScheme, axis: usize) -> QuantizationScheme {
    let axis = Axis::new(i32::try_from(axis).unwrap_or(i32::MAX));
    let (ty, mapping) = (scheme.quantization_type(), scheme.mapping());
    QuantizationScheme::new(ty, mapping, Granularity::PerChannel(axis))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[40, 32, 3]`, where the channel `c` along axis 1 has the magnitude `magnitude(c)`.
    fn along_1(magnitude: impl Fn(usize) -> f32) -> Vec<f32> {
        let value = |i: usize| magnitude(i / 3 % 32) * if i.is_multiple_of(2) { 0.9 } else { -1.0 };
        (0..SHAPE.iter().product()).map(value).collect()
    }

    const SHAPE: [usize; 3] = [40, 32, 3];

    fn warning(scheme: &str, values: &[f32]) -> Option<Warning> {
        let scheme = scheme.parse().unwrap();
        Spread::of(&SHAPE, scheme, 0, values)?.warning(&SHAPE, scheme)
    }

    #[test]
    fn one_large_channel_takes_the_codes_of_all_others() {
        let values = along_1(|channel| if channel == 7 { 100.0 } else { 1.0 });
        let expected = |gain_db| Some(Warning::OtherAxis { axis: 1, gain_db });
        for (scheme, gain) in [
            ("per-channel-symmetric-int8", Some(40)),
            ("per-channel-affine-int8:axis=2", Some(40)),
            ("per-tensor-symmetric-int8", Some(40)),
            // Codes of 4 bits have 24 dB.
            ("per-channel-symmetric-int4", Some(24)),
            ("per-channel-symmetric-int3", None),
            ("per-channel-symmetric-int8:axis=1", None),
            ("per-block-symmetric-int8:len=3", None),
            ("per-block-symmetric-int8:len=2", None),
        ] {
            assert_eq!(warning(scheme, &values), gain.and_then(expected), "{scheme}");
        }
    }

    #[test]
    fn an_axis_is_no_better_if_it_would_lose_as_much() {
        let scheme = "per-channel-symmetric-int8";
        let mut one = along_1(|_| 1.0);
        one[500] = 100.0;
        assert_eq!(warning(scheme, &one), None);
        assert_eq!(warning(scheme, &along_1(|channel| 1.0 + channel as f32 / 8.0)), None);
        assert_eq!(warning(scheme, &along_1(|_| 0.0)), None);
        let half_is_zero = along_1(|channel| if channel < 20 { 0.0 } else { 1.0 });
        assert_eq!(warning(scheme, &half_is_zero), None);
    }

    #[test]
    fn parts_together_have_the_spread_of_the_whole() {
        let values: Vec<f32> =
            (0..SHAPE.iter().product::<usize>()).map(|i| (i * i % 1013) as f32 - 500.0).collect();
        let scheme = "per-tensor-symmetric-int8".parse().unwrap();
        let part = |at: usize, len: usize| {
            let end = values.len().min(at + len);
            Spread::of(&SHAPE, scheme, at, &values[at..end]).unwrap()
        };
        let maxima = |spread: &Spread| {
            spread.0.iter().map(|it| (it.axis, it.first, it.maxima.clone())).collect::<Vec<_>>()
        };
        for len in [3, 27, 96, 99, 1000 * 3] {
            let parts = (0..values.len()).step_by(len).map(|at| part(at, len));
            let sum = parts.reduce(Spread::and).unwrap();
            assert_eq!(maxima(&sum), maxima(&part(0, values.len())), "{len}");
        }
        let (shape, rows): ([usize; 2], _) = ([2000, 20], 20 * 14);
        let values: Vec<f32> = (0..40_000).map(|i| (i * i % 1013) as f32).collect();
        let part = |at: usize| Along::of(&shape, 1, at, &values[at..values.len().min(at + rows)]);
        let parts = (0..values.len()).step_by(rows).map(part);
        let sum = parts.reduce(|mut sum, next| {
            sum.add(next);
            sum
        });
        assert_eq!(sum.unwrap().maxima, Along::of(&shape, 1, 0, &values).maxima);
    }

    #[test]
    fn a_part_keeps_the_channels_that_it_has() {
        let values = along_1(|_| 1.0);
        let scheme = "per-tensor-symmetric-int8".parse().unwrap();
        let along = |at: usize, len: usize| {
            let spread = Spread::of(&SHAPE, scheme, at, &values[at..at + len]).unwrap();
            spread.0.iter().map(|it| (it.axis, it.first, it.maxima.len())).collect::<Vec<_>>()
        };
        assert_eq!(along(96, 96), [(0, 1, 1), (1, 0, 32)]);
        assert_eq!(along(99, 6), [(0, 1, 1), (1, 1, 2)]);
    }
}
