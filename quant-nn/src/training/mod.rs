//! Quantization-aware training of candle models: what is trained is what is shipped, bit for bit
//! (feature `candle`).
//!
//! [`Qat`] takes a model whose parameters are variables and a [`Recipe`](quant::Recipe), and leads
//! it through three phases:
//!
//! ```text
//!            fake()             freeze()              convert(), export()
//! observe ───────────▶ fake ───────────────▶ frozen ─────────────────────▶ integers
//! float; activations   quantized; scales     quantized; scales
//! are observed         follow or learn       stand still
//! ```
//!
//! From `fake` on a forward pass computes what the deployed model computes (rule 6 of
//! `docs/numerics.md`), with the same kernels. Backwards, rounding is taken for the identity where
//! a value does not saturate (rule 8), and the product for that of the floats which the codes
//! stand for. [`Qat::convert`] then changes nothing but the storage: its outputs have equal bits.
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
//!         10 => qat.fake()?,
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
//! To go on another day, save [`Qat::checkpoint`] and [`restore`](Qat::restore) it: training
//! continued gives the bits of training uninterrupted.

mod activation;
mod loss;
mod optimizer;
mod phase;
mod qat;
mod weight;

pub use loss::{cross_entropy, distillation};
pub use optimizer::{Adam, OptimizerError, Sgd};
pub use phase::{Phase, StepSize, learning};
pub use qat::{Qat, QatError, QatOptions};

pub(crate) use activation::learned_scale;
pub(crate) use phase::learns_statistics;
pub(crate) use weight::FakeWeight;
