//! Ranges, quantization, dequantization and their error on slices (`docs/numerics.md`, rules 1
//! and 3), and second moments (rule 18).
//!
//! Each loop is written once, in portable Rust over arrays, which the compiler turns into whole vectors, and
//! compiled once per instruction set. Heads and tails evaluate the same expression per element, so the result
//! of an element does not depend on its position.
//!
//! Imports `isa`, `dispatch` and `scheme`. Start with `affine`.

pub(crate) mod affine;
pub(crate) mod min_max;
mod moments;
mod quant_error;
mod quantize;

pub use quant_error::QuantError;
