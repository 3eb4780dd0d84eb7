#![cfg_attr(docsrs, feature(doc_cfg))]
//! Layers that execute, float or quantized, over one definition for every kind of tensor.
//!
//! A layer holds parameters and, where its product can be done in integers, an
//! [`ActivationQuantizer`](quant::activation::ActivationQuantizer) for its input. What it computes depends on
//! the two:
//!
//! | weight | input | product |
//! |---|---|---|
//! | float | any | float; the input is used as it is |
//! | quantized | float, observing | weight-only: weights become float inside the kernel |
//! | quantized | dynamic, static | integers (rule 6 of the numerics) |
//!
//! Nothing here is privileged: a layer calls the operations of [`Backend`], and so can yours.
//!
//! ```
//! use ndarray::{arr1, arr2};
//! use quant_nn::Linear;
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
//! pool of your own with `ThreadPool::install`. That is faster as well: outside a pool each product
//! costs 5 to 60 µs to hand over, so only large ones run in parallel. Outputs do not depend on the
//! number of threads.
//!
//! # Features
//!
//! | feature | default | without it |
//! |---|---|---|
//! | `candle` | no | layers do not run over candle's `Tensor` and `Var`, and there is no `training` |

mod backend;
mod error;
pub mod fake_quant;
mod fold;
mod layers;
mod ops;
#[cfg(feature = "candle")]
mod train_state;
#[cfg(feature = "candle")]
pub mod training;
mod weights;

pub use backend::Backend;
#[cfg(feature = "candle")]
pub use backend::candle;
pub use backend::ndarray::{
    CpuParam, CpuStorage, attention, conv2d, embedding, layer_norm, linear, matmul,
};
pub use error::ForwardError;
pub use layers::{
    BatchNorm2d, Conv2d, ConvNorm2d, Embedding, FoldError, FoldNorms, LayerNorm, Linear,
};
pub use ops::{BatchNormParams, Conv2dOptions, ConvParams, Pool, Unary};
pub use weights::{PackWeightsError, pack_weights, pack_weights_for_floats};
