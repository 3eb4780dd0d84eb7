//! What the examples that train share: loops over batches, and curves.

pub mod curves;
pub mod epochs;
