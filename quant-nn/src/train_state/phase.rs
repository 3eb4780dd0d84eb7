//! The phases of training.

use core::fmt;

/// The phases of quantization-aware training, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Everything is float, and activations are observed.
    Observe,
    /// Weights and activations are fake-quantized; scales follow the range, or are trained.
    FakeQuant,
    /// Weights and activations are fake-quantized; scales are fixed, and weights are still trained.
    Frozen,
}

impl Phase {
    /// Every phase, first to last.
    pub const ALL: [Self; 3] = [Self::Observe, Self::FakeQuant, Self::Frozen];

    /// The name in checkpoints: `observe`, `fake` or `frozen`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::FakeQuant => "fake",
            Self::Frozen => "frozen",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
