#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(feature = "std"), no_std)]
// Only the kernels and the map of a file have reasons for it, and write them down.
#![deny(unsafe_code)]
//! The serde of quantization.
//!
//! `serde` does not own your structs, and neither does this crate: derive [`Module`] on the model
//! you have, wrap its parameters in [`Param`], and it can be quantized, inspected, saved, loaded
//! and made float again.
//!
//! ```
//! use ndarray::{Array1, Array2};
//! use quant::{BincodeRecorder, MinMaxCalibration, Module, Param, QuantizationScheme, QuantizationType, Quantizer};
//!
//! #[derive(Module)]
//! struct Dense { weight: Param<Array2<f32>>, bias: Param<Array1<f32>> }
//!
//! let dense = Dense { weight: Array2::from_elem((32, 64), 0.5).into(), bias: Array1::zeros(32).into() };
//! let scheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);
//! let mut quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme };
//! println!("{}", quantizer.plan(&dense)?); // what becomes of every parameter, and why
//! let dense = dense.quantize_weights(&mut quantizer)?;
//! let record: Vec<u8> = dense.save_bytes(&BincodeRecorder::default())?; // or save_file, load_file
//! # assert!(dense.weight.is_quantized() && !dense.bias.is_quantized());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The way through
//!
//! 1. A [`Quantizer`] (one scheme for all) or a [`Recipe`] (rules by path, in Rust or TOML) makes
//!    a [`Plan`]: for every parameter an outcome, the reason, the bytes before and after and the
//!    expected error. [`Plan::apply`] quantizes, or changes nothing and says why.
//!    [`Module::quantize_weights`] is both in one.
//! 2. A [`Calibration`] finds the range that the codes of each group must cover.
//! 3. [`Module::save_file`] and [`Module::load_file`] write and read a self-describing record
//!    that is checked whole before it is believed; see [`record`].
//! 4. A [`ModuleVisitor`] sees every parameter and a [`ModuleMapper`] replaces it;
//!    [`Module::dequantize`] is one.
//!
//! 5. The layers of the crate `quant-nn` run in integers: an [`ActivationQuantizer`] beside the
//!    weight says how the input is quantized, by the range of each batch or by a range that
//!    [`Module::calibrate`] found; see [`activation`].
//! 6. With its feature `candle`, `quant-nn` trains a model for few bits, and the trained model's
//!    integers give the bits of its forward pass in training.
//! 7. A [`MixedPrecision`] chooses the scheme of each parameter within a budget of bytes, and
//!    [`Sensitivity`] ranks parameters by what quantizing them does to a loss.
//! 8. The crate `quant-formats` shows it all as one HTML page, and plans, quantizes and converts
//!    checkpoints of any format tensor by tensor; `quant-cli` is the command line for it.
//!
//! A parameter is its path: `layers.0.weight`. Rules, errors and files use it.
//!
//! # Which scheme
//!
//! | you want | take | because |
//! |---|---|---|
//! | a safe start | `per-channel-symmetric-int8` | a scale for each row costs little and contains outliers; fast in integers |
//! | the least to explain | `per-tensor-symmetric-int8` | one scale; good where rows are alike |
//! | ranges far from symmetric | `per-tensor-affine-int8` and its kin | no codes are spent where no values are; a zero point to carry |
//! | 4 bits and below | `per-block-symmetric-int4`, calibrated by `mse` | 32 values share a scale; clipping a few pays for many |
//! | the smallest files | `…-int4:scale=f16`, `…-int2` | half the scales' bytes; 2 bits want training |
//!
//! Channels lie along the first axis unless the name says otherwise: `[out, in]` weights need
//! nothing, `[in, out]` ones `:axis=-1`. By default parameters of rank 2 and above are quantized;
//! biases and norms, of rank 1 and 0, are not worth the error. `#[module(quantize)]`,
//! `#[module(keep)]` and `#[module(scheme = "…")]` overrule that, and a recipe's rule overrules
//! all. Measure: [`Plan`] prints the signal-to-noise ratio of every parameter.
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
//! - The division is one; nothing is multiplied by a reciprocal.
//! - Values beyond the range **saturate** at `qmin` or `qmax`. A NaN or infinity in a weight is an
//!   error that names the parameter and the element.
//! - Zero is always exact. A value inside of the range comes back within `s / 2` and one ulp.
//! - A range too narrow for a normal f32 scale, such as that of zeros alone, has `s = 1`, `z = 0`.
//! - A scale stored in f16 is rounded before codes are computed; one that is not a normal f16 is an
//!   error.
//!
//! Every kernel gives the same bits, so a file and a result do not depend on the machine. The whole
//! specification is `docs/numerics.md`.
//!
//! # Features
//!
//! | feature | default | without it |
//! |---|---|---|
//! | `std` | yes | the crate is `no_std` with `alloc`: no plans, recipes, records and activation quantizers; tensors are quantized by [`quantize_values`], and the CPU is not asked which kernel it has |
//! | `derive` | yes | [`Module`] is implemented by hand |
//! | `ndarray` | yes | [`FloatTensor`] is not implemented for `ndarray::Array` |
//! | `rayon` | no | products of integers and the loading of records run on the calling thread alone |
//! | `mmap` | no | there is no [`MappedRecord`](record): models are read into memory, not borrowed from a file |
//! | `candle` | no | [`FloatTensor`] is not implemented for candle's `Tensor` and `Var` |

extern crate alloc;

#[cfg(feature = "std")]
pub mod activation;
pub mod calibration;
mod model;
pub mod module;
pub mod quantize;
#[cfg(feature = "std")]
pub mod record;
pub mod tensor;

#[doc(hidden)]
pub mod __private;

pub use quant_kernels as kernel;
pub use quant_kernels::scheme;

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

// Until the other crates follow.
#[cfg(feature = "std")]
#[doc(hidden)]
pub use self::{
    activation::{ActivationError, ActivationMode, ActivationQuantizer, ConvertError},
    calibration::{AnyObserver, CalibrationMethod, CalibrationNameError, EntropyCalibration},
    quantize::{
        Action, CalibrateError, Candidate, Decision, Expected, LayerSensitivity, PlanDifference,
        PlannedActivation, PlannedParam, Planner, Reason, Sensitivity, SensitivityError,
        UnmatchedRule,
        mixed::{
            self, Budget, BudgetError, MixedPlan, MixedPrecision, MixedPrecisionError, Precision,
            PrecisionNameError,
        },
    },
    record::{Difference, Record, RecordEntry, RecordFile, RecordWriter, Recorder},
    scheme::{ActivationScheme, NameError},
};
#[doc(hidden)]
pub use calibration::{
    Calibration, Histogram, MinMaxObserver, MovingAverageCalibration, MovingAverageObserver,
    MseCalibration, Observer, PercentileCalibration,
};
#[doc(hidden)]
pub use module::{
    Directive, MapError, ModuleVisitor, ParamInfo, ParamView, StateLeaf, TryModuleMapper, Walk,
    Walker, WalkerMut,
};
#[doc(hidden)]
pub use quantize::{WeightError, quantize_values};
#[cfg(feature = "mmap")]
#[doc(hidden)]
pub use record::{MappedRecord, Verify};
#[doc(hidden)]
pub use scheme::{
    Axis, Block, Granularity, Grid, LayoutError, Mapping, NonFinite, QuantParams, Range,
    ScaleError, ScaleType,
};
#[doc(hidden)]
pub use tensor::{QuantizedTensor, SharedTensor, TensorError};

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
