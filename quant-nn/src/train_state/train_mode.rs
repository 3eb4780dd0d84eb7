//! What a forward pass updates: nothing, unless it runs in train mode.

use core::cell::Cell;

/// What a forward pass updates besides recording gradients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Updates {
    Nothing,
    /// The observed ranges of activations in training.
    Ranges,
    /// Also the running statistics of norms.
    RangesAndStatistics,
}

thread_local! {
    static UPDATES: Cell<Updates> = const { Cell::new(Updates::Nothing) };
}

/// Runs a forward pass in train mode: activations in training are observed, and
/// [`BatchNorm2d`](crate::BatchNorm2d) normalizes by the statistics of the batch and moves its
/// running mean and variance. Outside of train mode a forward pass changes nothing.
///
/// [`Qat::train`](crate::training::Qat::train) calls it. Call it yourself to train a float model with norms.
pub fn train_mode<R>(f: impl FnOnce() -> R) -> R {
    with_updates(Updates::RangesAndStatistics, f)
}

pub(crate) fn with_updates<R>(updates: Updates, f: impl FnOnce() -> R) -> R {
    struct Reset(Updates);
    impl Drop for Reset {
        fn drop(&mut self) {
            UPDATES.set(self.0);
        }
    }
    let _reset = Reset(UPDATES.replace(updates));
    f()
}

/// Whether activations in training observe their input.
pub(super) fn updates_ranges() -> bool {
    UPDATES.get() >= Updates::Ranges
}

/// Whether norms use and follow the statistics of the batch.
pub(crate) fn updates_statistics() -> bool {
    UPDATES.get() == Updates::RangesAndStatistics
}
