//! Quantization-aware training of candle models: the trained model and the deployed one give the
//! same bits (feature `candle`).
//!
//! [`Qat`] takes a model whose parameters are variables and a [`Recipe`](quant::Recipe), and takes
//! it through three phases:
//!
//! ```text
//!            enable_fake_quant()         freeze()          convert(), export()
//! Observe ─────────────────────▶ FakeQuant ─────────▶ Frozen ─────────────────▶ integers
//! float; activations             fake-quantized;      fake-quantized;
//! are observed                   scales are trained   scales are fixed
//! ```
//!
//! From [`Phase::FakeQuant`] on, a forward pass computes what the deployed model computes (rule 6
//! of `docs/numerics.md`), with the same kernels. The backward pass uses the straight-through
//! estimator (rule 8) and the product of the dequantized values. [`Qat::convert`] then changes only
//! the storage: the outputs of the converted model have equal bits.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use quant_nn::Linear;
//! use quant_nn::training::{Adam, Qat, QatOptions, cross_entropy};
//! use quant::scheme::ActivationScheme;
//! use quant::Recipe;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cpu = Device::Cpu;
//! let model = Linear::new(Var::randn(0f32, 0.5, (2, 8), &cpu)?, Some(Var::zeros(2, candle_core::DType::F32, &cpu)?))?;
//! let x = Tensor::randn(0f32, 1.0, (32, 8), &cpu)?;
//! let labels: Vec<u32> = x.sum(1)?.to_vec1::<f32>()?.iter().map(|&sum| (sum > 0.0).into()).collect();
//!
//! let recipe = Recipe::new()
//!     .scheme("per-channel-symmetric-int4".parse()?)
//!     .activations(ActivationScheme::STATIC);
//! let mut qat = Qat::new(model, &recipe, QatOptions::default())?;
//! let mut adam = Adam::new(qat.model())?;
//! for step in 0..60 {
//!     match step {
//!         10 => qat.enable_fake_quant()?,
//!         50 => qat.freeze()?,
//!         _ => {}
//!     }
//!     let scores = qat.train(|model| model.forward(&x))?;
//!     adam.step(qat.model(), &cross_entropy(&scores, &labels)?.backward()?, 0.05)?;
//! }
//! let trained = qat.model().forward(&x)?.to_vec2::<f32>()?;
//! let integers = qat.convert()?;
//! assert!(integers.weight.is_quantized());
//! assert_eq!(integers.forward(&x)?.to_vec2::<f32>()?, trained);
//! # Ok(())
//! # }
//! ```
//!
//! To resume training later, save [`Qat::checkpoint`] and [`restore`](Qat::restore) it: resumed
//! training gives the bits of uninterrupted training.
//!
//! This room imports `layers` (to fold norms) and asks `backend::candle` for variables. Start
//! reading in `qat/mod.rs`; `weight.rs` and `activation.rs` hold what training attaches to a model.

mod loss;
mod optimizer;
mod qat;

pub use loss::{cross_entropy, distillation};
pub use optimizer::{Adam, OptimizerError, Sgd};
pub use qat::{Qat, QatError, QatOptions};

pub use crate::train_state::{phase::Phase, scale::ScaleSource, train_mode::train_mode};
