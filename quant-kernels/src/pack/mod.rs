//! Packed activations (`a`) and packed weights (`b`) of a product `a · bᵀ`.
//!
//! Imports `isa`, `dispatch`, `parallel`, `elementwise` and `bits`. Start with `b`, whose layout everything
//! else follows.

pub(crate) mod a;
pub(crate) mod b;
mod back;
mod panels;
pub(crate) mod permutation;
mod quads;
pub(crate) mod source;
pub(crate) mod tiling;
pub(crate) mod units;
pub(crate) mod unpack;
pub(crate) mod weights;

pub use b::PackedWeights;
pub use back::WeightRow;
pub use weights::{Codes, Weights};
