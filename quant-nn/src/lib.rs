#![cfg_attr(docsrs, feature(doc_cfg))]
//! Layers that run float or in exact integers, over `ndarray` or candle.
//!
//! A layer holds parameters and, where its product can run in integers, an
//! [`ActivationQuantizer`](quant::activation::ActivationQuantizer) for its input. The two decide
//! how the product is computed:
//!
//! | weight | input | product |
//! |---|---|---|
//! | float | float, observing | float |
//! | float | dynamic, static | an error: the weight must be quantized, too |
//! | quantized | float, observing | weight-only: the kernel dequantizes the weights |
//! | quantized | dynamic, static | integers (rule 6 of `docs/numerics.md`) |
//! | any | pending | an error: call `prepare`, or `calibrate` and `convert` |
//!
//! ```
//! use ndarray::{arr1, arr2};
//! use quant::scheme::ActivationScheme;
//! use quant::{Module, Recipe};
//! use quant_nn::Linear;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let weight = arr2(&[[1.0f32, 2.0], [3.0, -4.0]]).into_dyn();
//! let layer = Linear::new(weight, Some(arr1(&[0.5, 0.0]).into_dyn()))?;
//! let recipe = Recipe::new()
//!     .scheme("per-channel-symmetric-int8".parse()?)
//!     .activations(ActivationScheme::DYNAMIC);
//! let layer = layer.quantize(&recipe)?;
//! let y = layer.forward(&arr2(&[[1.0f32, 0.5]]).into_dyn())?;
//! assert!((y[[0, 0]] - 2.5).abs() < 0.05 && (y[[0, 1]] - 1.0).abs() < 0.05);
//! # Ok(())
//! # }
//! ```
//!
//! Weights run in integers with one scale per tensor, per output channel (the first axis, or the
//! [axis of outputs](ConvTranspose2dOptions::channel_axis) of a transposed convolution) or, in
//! [`Linear`], per block. A [`Plan`](quant::Plan) warns of weights that do not run, and
//! the forward pass refuses them ([`ForwardError::Pack`]).
//!
//! # Layers of your own
//!
//! The layers of this crate have no private access: they call [`Backend`], and so can yours. Over
//! `ndarray`, [`linear`], [`conv2d`], [`conv1d`], [`conv_transpose2d`], [`conv_transpose1d`],
//! [`embedding`] and [`layer_norm`] take parameters of every rank, and run a struct of your own in
//! integers by one call. For more of the kernels, such as a fused `ReLU`, [`pack_weights`] turns a
//! quantized tensor into packed weights.
//!
//! A parameter may be used twice in one forward pass, as the weight of an embedding that is also
//! that of the last layer. It is one field, so it is quantized, saved and packed once:
//!
//! ```
//! use ndarray::{Array2, arr2};
//! use quant::activation::ActivationQuantizer;
//! use quant::{Module, Param};
//! use quant_nn::ForwardError;
//!
//! #[derive(Module)]
//! struct LanguageModel {
//!     /// `[tokens, features]`: rows of the embedding, and outputs of the head.
//!     tokens: Param<Array2<f32>>,
//!     head_input: ActivationQuantizer,
//! }
//!
//! impl LanguageModel {
//!     fn scores(&self, tokens: &[u32]) -> Result<Array2<f32>, ForwardError> {
//!         let x = quant_nn::embedding(tokens, &self.tokens)?;
//!         quant_nn::linear(&x, &self.tokens, None, &self.head_input)
//!     }
//! }
//!
//! let tokens = arr2(&[[1.0, 0.0], [0.0, 2.0]]).into();
//! let model = LanguageModel { tokens, head_input: ActivationQuantizer::new() };
//! assert_eq!(model.scores(&[1])?, arr2(&[[0.0, 4.0]]));
//! # Ok::<(), ForwardError>(())
//! ```
//!
//! # Threads
//!
//! Products run on the threads of the current `rayon` pool. To choose their number, run inside of a
//! pool of your own with `ThreadPool::install`. Outside of a pool each product costs 5–60 µs to
//! hand over, so only large ones run in parallel. Outputs do not depend on the number of threads.
//!
//! # Features
//!
//! | feature | default | without it |
//! |---|---|---|
//! | `candle` | no | layers do not run over candle's `Tensor` and `Var`, and there is no `training` |
//! | `half` | no | [`linear`] and the other functions do not run on arrays of `half::f16` and `half::bf16` |

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
    CpuParam, CpuStorage, attention, causal_attention, causal_attention_into, conv_transpose1d,
    conv_transpose2d, conv1d, conv2d, embedding, embedding_into, keep_rows, layer_norm, linear,
    linear_into, matmul, pack, permute_columns, rms_norm_into, rope, swiglu,
};
pub use error::ForwardError;
pub use layers::{
    BatchNorm2d, Ceiling, ClippedRelu, Conv1d, Conv2d, ConvNorm2d, ConvTranspose1d,
    ConvTranspose2d, Embedding, FoldError, FoldNorms, InputOrder, InputOrderError, LayerNorm,
    Linear, RmsNorm,
};
pub use ops::{
    BatchNormParams, Conv1dOptions, Conv2dOptions, ConvParams, ConvTranspose1dOptions,
    ConvTranspose2dOptions, LinearParams, Pool, Unary,
};
pub use weights::{
    PackWeightsError, pack_weights, pack_weights_for_dynamic, pack_weights_for_floats,
};
