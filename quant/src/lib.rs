#![cfg_attr(not(feature = "std"), no_std)]
//! The serde of quantization.

extern crate alloc;

pub mod calibration;
pub mod kernel;
pub mod scheme;

pub use calibration::{
    Calibration, CalibrationMethod, CalibrationNameError, MinMaxCalibration, MinMaxObserver,
    MseCalibration, Observer,
};
pub use scheme::{
    Axis, Block, Granularity, Grid, LayoutError, Mapping, NonFinite, QuantParams,
    QuantizationScheme, QuantizationType, Range, ScaleError, ScaleType, SchemeNameError,
};

pub mod tensor;
pub use tensor::{FloatTensor, QuantizedTensor, Tensor, TensorError};

pub mod module;
pub use module::{
    Directive, MapError, Module, ModuleMapper, ModuleVisitor, Param, ParamId, ParamInfo, ParamView,
    TryModuleMapper, Walker, WalkerMut,
};
#[cfg(feature = "derive")]
pub use quant_derive::Module;

#[cfg(feature = "std")]
pub mod quantize;
#[cfg(feature = "std")]
pub use quantize::{
    Action, Candidate, Decision, Expected, Plan, PlanDifference, PlannedParam, Planner,
    QuantizeError, Quantizer, Reason, Recipe, Rule, UnmatchedRule, WeightError, quantize_values,
};

#[doc(hidden)]
pub mod __private;
