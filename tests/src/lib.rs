//! What the integration tests share.

pub mod arrays;
pub mod errors;
pub mod files;
pub mod golden;
pub mod kernels;
pub mod mutate;
pub mod record;

/// The README's example is compiled and run as a test of this crate: the package of `quant` has
/// the README, but not where the repository has it.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct ReadMe;
