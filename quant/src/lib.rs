#![cfg_attr(not(feature = "std"), no_std)]
//! The serde of quantization.

extern crate alloc;
// The derive writes `::quant`; this crate's own layers use it.
#[cfg(feature = "nn")]
extern crate self as quant;

#[cfg(feature = "std")]
pub mod activation;
pub mod calibration;
pub mod kernel;
pub mod module;
#[cfg(feature = "nn")]
pub mod nn;
pub mod quantize;
#[cfg(feature = "std")]
pub mod record;
pub mod scheme;
pub mod tensor;

#[doc(hidden)]
pub mod __private;

#[cfg(feature = "derive")]
pub use quant_derive::Module;

pub use calibration::{
    Calibration, Histogram, MinMaxCalibration, MinMaxObserver, MovingAverageCalibration,
    MovingAverageObserver, MseCalibration, Observer, PercentileCalibration,
};
pub use module::{
    Directive, MapError, Module, ModuleMapper, ModuleVisitor, Param, ParamId, ParamInfo, ParamView,
    TryModuleMapper, Walker, WalkerMut,
};
pub use quantize::{WeightError, quantize_values};
pub use scheme::{
    Axis, Block, Granularity, Grid, LayoutError, Mapping, NonFinite, QuantParams,
    QuantizationScheme, QuantizationType, Range, ScaleError, ScaleType, SchemeNameError,
};
pub use tensor::{FloatTensor, QuantizedTensor, Tensor, TensorError};

#[cfg(feature = "std")]
pub use activation::{
    ActivationError, ActivationMode, ActivationQuantizer, ActivationScheme, ActivationSchemeError,
    CalibrateError, ConvertError,
};
#[cfg(feature = "std")]
pub use calibration::{AnyObserver, CalibrationMethod, CalibrationNameError, EntropyCalibration};
#[cfg(feature = "std")]
pub use quantize::{
    Action, Candidate, Decision, Expected, Plan, PlanDifference, PlannedActivation, PlannedParam,
    Planner, QuantizeError, Quantizer, Reason, Recipe, Rule, UnmatchedRule,
};
#[cfg(feature = "std")]
pub use record::{BincodeRecorder, Difference, Record, RecordError, Recorder};
