//! What receives the inputs and outputs of a layer while they are observed.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernel::{Kernel, QuantError};
use crate::moments::{LayerMoments, MomentsError};

/// What receives inputs or outputs, from any thread.
#[derive(Debug)]
pub(super) struct Tap<T>(Mutex<T>);

impl<T> Tap<T> {
    pub(super) fn new(seen: T) -> Self {
        Self(Mutex::new(seen))
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn into_seen(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Clone for Tap<T> {
    fn clone(&self) -> Self {
        Self::new(self.seen().clone())
    }
}

/// The taps of a layer.
#[derive(Clone, Debug, Default)]
pub(super) struct Taps {
    /// Of inputs, for second moments.
    pub(super) moments: Option<Tap<MomentsSeen>>,
    /// Of outputs, for the comparison with another model.
    pub(super) outputs: Option<Tap<OutputsSeen>>,
}

/// What was seen of the rows of inputs.
#[derive(Clone, Debug)]
pub(super) enum MomentsSeen {
    /// Nothing yet.
    Nothing,
    /// The largest magnitude, and the number of columns.
    Magnitude(f32, usize),
    /// The moments.
    Moments(LayerMoments),
}

impl Tap<MomentsSeen> {
    pub(super) fn add(&self, columns: usize, values: &[f32]) -> Result<(), MomentsError> {
        let mut seen = self.seen();
        let (magnitude, expected) = match &mut *seen {
            MomentsSeen::Moments(moments) => return moments.add(values),
            MomentsSeen::Magnitude(magnitude, expected) => (*magnitude, *expected),
            MomentsSeen::Nothing => (0.0, columns),
        };
        if columns != expected {
            return Err(MomentsError::Columns { expected, found: columns });
        }
        let range = Kernel::current().min_max(values);
        let (lo, hi) =
            range.map_err(|error| MomentsError::NonFinite { value: f64::from(error.value) })?;
        *seen = MomentsSeen::Magnitude(magnitude.max(-lo).max(hi), columns);
        Ok(())
    }
}

/// What was seen of outputs.
#[derive(Clone, Debug)]
pub(super) enum OutputsSeen {
    /// Outputs of a batch, one for each call of the layer.
    Kept(VecDeque<Vec<f32>>),
    /// The outputs that are still expected for the batch, and the sums over all batches.
    Compared(VecDeque<Vec<f32>>, Sums),
    /// Sums of a model's outputs, by channel.
    Channels(ChannelSums),
    /// A layer had outputs that the other model did not have, or of which channels are not known.
    Unlike,
}

impl Tap<OutputsSeen> {
    /// Adds outputs of which `run` neighbours belong to one channel.
    pub(super) fn add(&self, values: &[f32], run: usize) {
        let seen = &mut *self.seen();
        match seen {
            OutputsSeen::Kept(kept) => kept.push_back(values.into()),
            OutputsSeen::Compared(expected, sums) => match expected.pop_front() {
                Some(reference) if reference.len() == values.len() => sums.add(&reference, values),
                _ => *seen = OutputsSeen::Unlike,
            },
            OutputsSeen::Channels(sums) => {
                if !sums.add(values, run) {
                    *seen = OutputsSeen::Unlike;
                }
            }
            OutputsSeen::Unlike => {}
        }
    }
}

/// The sum of the outputs of each channel, in the order of the outputs.
#[derive(Clone, Debug)]
pub(super) struct ChannelSums {
    sums: Vec<f64>,
    /// The number of outputs of a channel.
    count: u64,
    /// The number of layers that ran before this one ran first; `None` before it has run.
    pub(super) position: Option<usize>,
    /// The number of layers of the model that have run.
    layers: Arc<AtomicUsize>,
}

impl ChannelSums {
    pub(super) fn new(channels: usize, layers: &Arc<AtomicUsize>) -> Self {
        let sums = alloc::vec![0.0; channels];
        Self { sums, count: 0, position: None, layers: layers.clone() }
    }

    /// Adds outputs, unless they are not whole rows of runs of all channels.
    fn add(&mut self, values: &[f32], run: usize) -> bool {
        let row = self.sums.len().saturating_mul(run);
        if row == 0 || !values.len().is_multiple_of(row) {
            return false;
        }
        self.position.get_or_insert_with(|| self.layers.fetch_add(1, Ordering::Relaxed));
        self.count += (values.len() / self.sums.len()) as u64;
        for row in values.chunks_exact(row) {
            for (sum, values) in self.sums.iter_mut().zip(row.chunks_exact(run)) {
                *sum = values.iter().fold(*sum, |sum, &value| sum + f64::from(value));
            }
        }
        true
    }

    /// Whether every output was finite.
    pub(super) fn is_finite(&self) -> bool {
        self.sums.iter().all(|sum| sum.is_finite())
    }

    /// The mean of each channel; `None` if there were no outputs.
    pub(super) fn means(&self) -> Option<Vec<f64>> {
        let count = (self.count > 0).then_some(self.count as f64)?;
        Some(self.sums.iter().map(|sum| sum / count).collect())
    }
}

/// Sums over the outputs `y` of the reference and `ŷ` of the other model, in the order of the outputs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) count: u64,
    /// `Σ y²`
    signal: f64,
    /// `Σ (y - ŷ)²`
    noise: f64,
    /// `Σ ŷ²`
    other: f64,
    /// `Σ y ŷ`
    product: f64,
    /// `max |y - ŷ|`
    pub(super) largest: f64,
}

impl Sums {
    fn add(&mut self, reference: &[f32], values: &[f32]) {
        self.count += values.len() as u64;
        for (&y, &other) in reference.iter().zip(values) {
            let (y, other) = (f64::from(y), f64::from(other));
            let error = y - other;
            self.signal += y * y;
            self.noise += error * error;
            self.other += other * other;
            self.product += y * other;
            self.largest = self.largest.max(error.abs());
        }
    }

    /// Whether every output was finite.
    pub(super) fn is_finite(&self) -> bool {
        self.signal.is_finite() && self.other.is_finite()
    }

    pub(super) fn sqnr_db(&self) -> Option<f64> {
        QuantError { signal: self.signal, noise: self.noise, ..QuantError::default() }.sqnr_db()
    }

    pub(super) fn cosine(&self) -> f64 {
        let lengths = (self.signal * self.other).sqrt();
        if lengths == 0.0 && self.noise == 0.0 { 1.0 } else { self.product / lengths }
    }
}
