//! From models and tensors to bytes, and from bytes to files that are replaced in one step.
//!
//! Imports `format`. Start at [`model`], which writes a model to any writer; [`stream`] writes one
//! tensor at a time to a file or to shards, and [`atomic`] replaces files.

pub(super) mod atomic;
mod body;
pub(super) mod declared;
pub(crate) mod manifest;
pub(super) mod model;
pub(super) mod payload;
// Thousands of files, which Miri would take hours for.
#[cfg(all(test, not(miri)))]
mod power_loss;
mod shard_names;
mod shards;
mod sink;
mod stream;
pub(super) mod writer;
