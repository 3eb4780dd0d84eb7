//! The bytes of a record: prelude, header, sections and shard index, and the validation of them.
//!
//! Knows neither files nor models, and imports nothing from the rest of `record`. Start at
//! [`layout`] and [`header`]; [`validate`] checks what a header claims.

pub(super) mod alias;
mod codec;
pub(super) mod encoding;
pub(super) mod entry;
pub(super) mod error;
pub(super) mod foreign;
pub(super) mod header;
pub(super) mod layout;
pub(super) mod section;
pub(super) mod shard_index;
pub(super) mod validate;
pub(super) mod version;
