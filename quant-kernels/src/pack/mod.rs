//! Activations and weights in the order in which the microkernels read them: `a` and `b` of
//! `a · bᵀ`.
//!
//! Imports `isa`, `dispatch`, `elementwise` and `bits`. Start with `b`, whose layout everything else
//! follows.

pub(crate) mod a;
pub(crate) mod b;
mod panels;
pub(crate) mod permutation;
mod quads;
pub(crate) mod source;
pub(crate) mod tiling;
pub(crate) mod unpack;
pub(crate) mod weights;

pub use b::PackedWeights;
pub use weights::{Codes, Weights};
