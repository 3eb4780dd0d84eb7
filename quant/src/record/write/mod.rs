//! Writing: models and tensors become bytes, and bytes become files that replace others atomically.
//!
//! Imports `format`. Start at [`model`], which writes a model to any writer. [`stream`] writes one
//! tensor at a time to a file or to shards, and [`atomic`] replaces files.

pub(super) mod atomic;
pub(super) mod atomic_file;
mod body;
pub(super) mod declared;
pub(super) mod error;
pub(super) mod manifest;
pub(super) mod model;
pub(super) mod payload;
// Thousands of files, which Miri would take hours for.
#[cfg(all(test, not(miri)))]
mod power_loss;
pub(super) mod shard_names;
mod shards;
mod sink;
mod stream;
pub(super) mod writer;
