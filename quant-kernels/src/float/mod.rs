//! Functions of floats, with one answer (`docs/numerics.md`, rule 16).
//!
//! Imports `dispatch` and `isa`. Start with [`exp`](exp::exp); [`lanes`] has the order of sums.
//!
//! Loops run over arrays of sixteen floats, which the compiler turns into vectors of any width. No
//! operation is fused, so every kernel computes what the source says.

mod double;
mod each;
mod error;
pub(crate) mod exp;
mod lanes;
mod norm;
pub(crate) mod rope;
pub(crate) mod softmax;
mod sqrt;
mod swiglu;

pub use error::{FloatError, RopeError};
pub use rope::{Rope, RopeAngles, RopeLayout, RopeOptions, RopeScaling};

pub(crate) use sqrt::sqrt;
