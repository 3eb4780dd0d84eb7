//! Where training stands.

use core::cell::Cell;
use core::fmt;

/// The phases of quantization-aware training, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is float, and activations are observed.
    Observe = 0,
    /// Weights and activations are quantized, with gradients; ranges go on moving, or learning.
    Fake = 1,
    /// As `Fake`, but ranges and scales stand still; weights still learn.
    Frozen = 2,
}

impl Phase {
    /// Every phase, first to last.
    pub const ALL: [Self; 3] = [Self::Observe, Self::Fake, Self::Frozen];

    /// The name, as it stands in checkpoints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Fake => "fake",
            Self::Frozen => "frozen",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where scales come from while they are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepSize {
    /// From the range: of a weight as it is at each step, of an activation as it was observed.
    FromRange,
    /// They start so, and are then trained by their gradient (learned step size, rule 8).
    Learned,
}

/// What a forward pass learns, besides what its gradients say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Learns {
    Nothing,
    /// Activations in training are observed.
    Ranges,
    /// And norms follow the batch.
    RangesAndStatistics,
}

thread_local! {
    static LEARNS: Cell<Learns> = const { Cell::new(Learns::Nothing) };
}

/// Runs a forward pass that learns statistics: activations in training are observed, and
/// [`BatchNorm2d`](crate::BatchNorm2d) normalizes by the batch and moves its running mean and
/// variance. Outside of it a forward pass changes nothing.
///
/// [`Qat::train`](super::Qat::train) calls it; call it yourself to train a float model with norms.
pub fn learning<R>(f: impl FnOnce() -> R) -> R {
    with(Learns::RangesAndStatistics, f)
}

pub(super) fn with<R>(learns: Learns, f: impl FnOnce() -> R) -> R {
    struct Reset(Learns);
    impl Drop for Reset {
        fn drop(&mut self) {
            LEARNS.set(self.0);
        }
    }
    let _reset = Reset(LEARNS.replace(learns));
    f()
}

/// Whether activations in training observe what passes.
pub(crate) fn learns_ranges() -> bool {
    LEARNS.get() >= Learns::Ranges
}

/// Whether norms follow the batch.
pub(crate) fn learns_statistics() -> bool {
    LEARNS.get() == Learns::RangesAndStatistics
}
