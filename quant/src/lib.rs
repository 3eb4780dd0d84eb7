#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(feature = "std"), no_std)]
// Only the map of a file needs it, and argues each block.
#![deny(unsafe_code)]
//! Quantization for the models you already have: the serde of quantization.
//!
//! Derive [`Module`] on your own struct and wrap its tensors in [`Param`]. The model can then be
//! planned, quantized, calibrated, saved, loaded and made float again.
//!
//! ```
//! use ndarray::{Array1, Array2};
//! use quant::prelude::*;
//!
//! #[derive(Module)]
//! struct Dense { weight: Param<Array2<f32>>, bias: Param<Array1<f32>> }
//!
//! let dense = Dense { weight: Array2::from_elem((32, 64), 0.5).into(), bias: Array1::zeros(32).into() };
//! let recipe = Recipe::new().scheme("int8".parse()?);
//! println!("{}", recipe.plan(&dense)?); // what happens to every parameter, and why
//! let dense = dense.quantize(&recipe)?;
//! let record: Vec<u8> = dense.save_bytes(&BincodeRecorder::default())?; // or save_file, load_file
//! assert!(dense.weight.is_quantized() && !dense.bias.is_quantized());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Step by step
//!
//! 1. A [`Recipe`] (rules by path, in Rust or TOML) or a [`Quantizer`] (one scheme for all) makes a
//!    [`Plan`]: for every parameter an outcome, the reason, the bytes before and after, and the
//!    expected error. [`Module::quantize`] plans and applies.
//! 2. A [`Calibration`](calibration::Calibration) finds the range that the codes of a group cover.
//! 3. [`Module::save_file`] and [`Module::load_file`] write and read a self-describing, checksummed
//!    record; see [`record`].
//! 4. An [`ActivationQuantizer`](activation::ActivationQuantizer) beside a weight says how the input
//!    of the layer is quantized: dynamically, or by a range that [`Module::quantize_with`] finds from
//!    batches. The layers of the crate `quant-nn` then run in integers, and yours can; `quant-nn` also
//!    trains models for few bits.
//! 5. [`MixedPrecision`](quantize::mixed::MixedPrecision) chooses a scheme for each parameter within a
//!    budget of bytes. [`Sensitivity`](quantize::Sensitivity) measures which parameters a loss
//!    depends on.
//! 6. The crate `quant-formats` converts and quantizes checkpoints tensor by tensor and makes reports;
//!    `quant-cli` is the command line.
//!
//! A parameter is identified by its path, such as `layers.0.weight`, in rules, errors and files. A
//! step that a recipe asks for and that was forgotten is an error with the path.
//!
//! One parameter may be used twice in a forward pass, as a tied output head is: it is one field,
//! visited, quantized and stored once. Two fields cannot share a tensor.
//!
//! # Without the derive
//!
//! Implement [`Walk`](module::Walk) by hand; its page has an example. Without a model,
//! [`quantize_values`](quantize::quantize_values) quantizes one tensor.
//!
//! # Which scheme
//!
//! | you want | take | because |
//! |---|---|---|
//! | a safe start | `per-channel-symmetric-int8`, in short `int8` | a scale for each output channel costs little and contains outliers; fast in integers |
//! | the fewest scales | `per-tensor-symmetric-int8` | one scale; good where channels are alike |
//! | ranges far from symmetric | `per-tensor-affine-int8`, `per-channel-affine-int8` | no codes are spent on values that do not occur; a zero point is stored |
//! | 4 bits and below | `per-block-symmetric-int4`, calibrated by `mse` | 32 values share a scale |
//! | the smallest files | `…-int4:scale=f16`, `…-int2` | scales take half the bytes; 2 bits need training |
//!
//! Channels lie along the first axis, the outputs of `[out, in]` weights. For `[in, out]` weights add
//! `:axis=-1`; no kernel runs that axis, and the plan says so. By default parameters of rank 2 and
//! above are quantized, and biases and norms, of rank 1 and 0, stay float. `#[module(quantize)]`,
//! `#[module(keep)]` and `#[module(scheme = "…")]` overrule the default, and a rule of a recipe
//! overrules all. A [`Plan`] prints the signal-to-noise ratio of every parameter.
//!
//! # What the numbers are
//!
//! Codes are signed integers of `b` bits: affine ones `qmin = -2^(b-1)` to `qmax = 2^(b-1) - 1`,
//! symmetric ones `-qmax` to `qmax` with zero point 0. For a group of elements, in f64 and rounded
//! to f32 at the end:
//!
//! ```text
//! lo = min(0, least value)      hi = max(0, greatest value)      α = max(-lo, hi)
//!
//! symmetric   s = α / qmax                     z = 0
//! affine      s = (hi - lo) / (qmax - qmin)    z = clamp(rne(qmin - lo / s), qmin, qmax)
//!
//! quantize    q = clamp(rne(x / s) + z, qmin, qmax)
//! dequantize  x̂ = f32(q - z) * s
//! ```
//!
//! - `rne` rounds to the nearest integer and **ties to the even one**: 0.5 becomes 0, 1.5 becomes 2.
//! - `x / s` is a division, not a product with a reciprocal.
//! - Values beyond the range **saturate** at `qmin` or `qmax`. A NaN or infinity in a weight is an
//!   error that names the parameter and the element.
//! - Zero is always exact. A value within the range comes back within `s / 2` and one ulp.
//! - A range too narrow for a normal f32 scale, such as that of zeros alone, has `s = 1`, `z = 0`.
//! - A scale stored in f16 is rounded before codes are computed; one that is not a normal f16 is an
//!   error.
//!
//! Every kernel gives the same bits in integer products, so files and integer results do not depend on
//! the machine. Float functions between them (softmax, GELU) come from crates that choose by CPU. The
//! specification is [`docs/numerics.md`](https://github.com/quant-rs/quant/blob/main/docs/numerics.md);
//! [the guide](https://github.com/quant-rs/quant/blob/main/docs/guide.md) has a page for each task.
//!
//! # Features
//!
//! | feature | default | without it |
//! |---|---|---|
//! | `std` | yes | the crate is `no_std` with `alloc`: no plans, recipes, records and activation quantizers; tensors are quantized by [`quantize_values`](quantize::quantize_values), and the CPU is not asked which kernels it has |
//! | `derive` | yes | [`Walk`](module::Walk) is implemented by hand |
//! | `serde` | yes | paths, schemes and observers are not serializable; `std` brings it |
//! | `ndarray` | yes | [`FloatTensor`] is not implemented for `ndarray::Array` |
//! | `half` | no | [`FloatTensor`] is not implemented for arrays of `half::f16` and `half::bf16` |
//! | `rayon` | no | integer products and the loading of records run on the calling thread |
//! | `mmap` | no | there is no [`MappedRecord`](record): models are read into memory, not borrowed from a file |
//! | `candle` | no | [`FloatTensor`] is not implemented for candle's `Tensor` and `Var` |

extern crate alloc;

#[cfg(feature = "std")]
pub mod activation;
pub mod calibration;
#[cfg(feature = "std")]
pub mod channels;
#[cfg(feature = "std")]
pub mod metrics;
mod model;
pub mod module;
#[cfg(feature = "std")]
pub mod moments;
pub mod quantize;
#[cfg(feature = "std")]
pub mod record;
#[cfg(feature = "std")]
mod table;
pub mod tensor;

#[doc(hidden)]
pub mod __private;

pub use quant_kernels as kernel;

/// What quantized numbers mean: schemes, scales and zero points, groups, rounding; from
/// [`quant_kernels`](kernel).
pub mod scheme {
    pub use quant_kernels::scheme::{
        ActivationMapping, ActivationScheme, Axis, Block, CodeRange, DynamicGranularity,
        DynamicQuantization, Granularity, Grid, Group, Groups, KeyValueScheme, LayoutError,
        Mapping, MinimumParams, NameError, NonFinite, QuantParams, Quantization, Range, ScaleError,
        ScaleType, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, fit, packing,
    };
    pub(crate) use quant_kernels::scheme::{QuantizationScheme, QuantizationType};
    #[doc(hidden)]
    pub use quant_kernels::scheme::{REFUSAL, element_count, round_code};
}

#[cfg(feature = "derive")]
pub use quant_derive::Module;

pub use calibration::min_max::MinMaxCalibration;
pub use model::Module;
pub use module::{id::ParamId, map::ModuleMapper, param::Param};
pub use quant_kernels::scheme::{QuantizationScheme, QuantizationType};
#[cfg(feature = "std")]
pub use quantize::{
    error::QuantizeError,
    plan::Plan,
    quantizer::Quantizer,
    recipe::{Recipe, Rule},
};
#[cfg(feature = "std")]
pub use record::{error::RecordError, recorder::BincodeRecorder};
pub use tensor::{float::FloatTensor, host::Tensor};

/// What most programs import: `use quant::prelude::*;`.
pub mod prelude {
    #[cfg(feature = "std")]
    pub use crate::activation::ActivationQuantizer;
    pub use crate::module::ModuleVisitor;
    #[cfg(feature = "std")]
    pub use crate::record::Recorder;
    #[cfg(feature = "std")]
    pub use crate::scheme::ActivationScheme;
    #[cfg(feature = "std")]
    pub use crate::{BincodeRecorder, Plan, QuantizeError, Quantizer, Recipe, RecordError, Rule};
    pub use crate::{
        FloatTensor, MinMaxCalibration, Module, ModuleMapper, Param, ParamId, QuantizationScheme,
        QuantizationType, Tensor,
    };
}
