//! What the bytes of a record mean: layout, header, index of shards, and the checks of all claims.
//!
//! Imports nothing of `record` but its errors; knows neither files nor models. Start at [`layout`],
//! then [`header`]; [`validate`] is where claims are compared.

pub(super) mod encoding;
pub(super) mod entry;
pub(super) mod header;
pub(super) mod layout;
pub(super) mod section;
pub(super) mod shard_index;
pub(super) mod validate;
