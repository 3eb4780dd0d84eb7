//! Ranges, quantization, dequantization and their error on slices (`docs/numerics.md`, rules 1
//! and 3).
//!
//! Each loop is written once, in plain Rust over arrays, and compiled once per instruction set; the
//! arrays are what makes the compiler use whole vectors. Heads and tails go through the same
//! expression per element, so no element depends on where it stands. Imports `isa`, `dispatch` and
//! `scheme`. Start with `affine`.

pub(crate) mod affine;
pub(crate) mod min_max;
mod quant_error;
mod quantize;

pub use quant_error::QuantError;
