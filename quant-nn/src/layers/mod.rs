//! The layers, each written once over [`Backend`](crate::Backend).

mod conv;
mod conv_norm;
mod embedding;
mod linear;
mod norm;

pub use conv::{BatchNorm2d, Conv2d};
pub use conv_norm::{ConvNorm2d, FoldError, FoldNorms};
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::LayerNorm;
