//! Causal attention over keys and values that are kept in 8 or 4 bits, or as floats (`docs/numerics.md`,
//! rule 17).
//!
//! Imports `elementwise`, `float`, `gemm::shared` and `parallel`. Start with [`KeyValueCache`], then
//! [`block`] and the two products: [`scores`] and [`sums`].

mod append;
#[allow(unsafe_code)]
mod block;
mod cache;
mod centers;
mod driver;
mod error;
mod few;
mod panels;
mod parameters;
mod queries;
mod scores;
mod sizes;
mod sums;
mod turn;

pub use cache::{KeyValueCache, KeyValueShape};
pub use driver::AttentionScratch;
pub use error::AttentionError;
