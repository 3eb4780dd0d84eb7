//! What the examples share: the data, and the model they train.

pub mod digits;
pub mod mlp;
pub mod train;
