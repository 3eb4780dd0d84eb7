//! What the examples that train share: loops over batches, the teacher, and curves.

pub mod curves;
pub mod epochs;
pub mod teacher;
