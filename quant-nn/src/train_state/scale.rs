//! Where scales come from in training.

/// Where the scales of weights or activations come from while a model is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScaleSource {
    /// From the range: that of a weight at each step, and the observed range of an activation.
    Range,
    /// From the range at first; then they are trained by their gradient: learned step size
    /// quantization (LSQ), rule 8.
    Learned,
}
