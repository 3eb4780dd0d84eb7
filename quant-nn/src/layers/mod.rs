//! The layers: parameters, a constructor that checks shapes, and a `forward` that calls
//! [`Backend`](crate::Backend).
//!
//! This room imports `backend`, `fold` and `ops`. Start reading in `linear.rs`.

mod batch_norm;
mod bias;
mod clipped_relu;
mod conv;
mod conv1d;
mod conv_norm;
mod conv_transpose;
mod embedding;
mod input_order;
mod layer_norm;
mod linear;
mod rms_norm;

pub use batch_norm::BatchNorm2d;
pub use clipped_relu::{Ceiling, ClippedRelu};
pub use conv::Conv2d;
pub use conv_norm::{ConvNorm2d, FoldError, FoldNorms};
pub use conv_transpose::{ConvTranspose1d, ConvTranspose2d};
pub use conv1d::Conv1d;
pub use embedding::Embedding;
pub use input_order::{InputOrder, InputOrderError};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use rms_norm::RmsNorm;
