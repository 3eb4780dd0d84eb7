//! Layers that execute, float or quantized, over one definition for every kind of tensor.
//!
//! A layer holds parameters and, where its product can be done in integers, an
//! [`ActivationQuantizer`](crate::activation::ActivationQuantizer) for its input. What it computes depends on
//! the two:
//!
//! | weight | input | product |
//! |---|---|---|
//! | float | any | float; the input is used as it is |
//! | quantized | float, observing | weight-only: weights become float inside the kernel |
//! | quantized | dynamic, static | integers (rule 6 of the numerics) |
//!
//! Nothing here is privileged: a layer calls the operations of [`Execute`], and so can yours.
//!
//! ```
//! use ndarray::{arr1, arr2};
//! use quant::nn::Linear;
//! use quant::scheme::ActivationScheme;
//! use quant::{Module, Recipe};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layer = Linear::new(arr2(&[[1.0f32, 2.0], [3.0, -4.0]]).into_dyn(), Some(arr1(&[0.5, 0.0]).into_dyn()))?;
//! let recipe = Recipe::new()
//!     .scheme("per-channel-symmetric-int8".parse()?)
//!     .activations(ActivationScheme::DYNAMIC);
//! let layer = layer.quantize_weights(&mut recipe.clone())?.prepare(&recipe)?;
//! let y = layer.forward(&arr2(&[[1.0f32, 0.5]]).into_dyn())?;
//! assert!((y[[0, 0]] - 2.5).abs() < 0.05 && (y[[0, 1]] - 1.0).abs() < 0.05);
//! # Ok(())
//! # }
//! ```
//!
//! # Threads
//!
//! Products use the threads of the current `rayon` pool; to choose their number, run inside a
//! pool of your own with `ThreadPool::install`. That is faster, too: whoever is outside a pool hands
//! each product over to it and waits, which pays for large ones only. Outputs do not depend on it.

mod conv;
mod conv_norm;
mod embedding;
mod error;
mod execute;
pub(crate) mod host;
mod linear;
mod norm;

pub use conv::{BatchNorm2d, Conv2d, Conv2dOptions};
pub use conv_norm::{ConvNorm2d, FoldError, FoldNorms};
pub use embedding::Embedding;
pub use error::ExecuteError;
pub use execute::{Execute, Pool, Unary};
pub use host::{attention, matmul};
pub use linear::Linear;
pub use norm::LayerNorm;
