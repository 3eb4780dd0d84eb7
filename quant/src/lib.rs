#![cfg_attr(not(feature = "std"), no_std)]
//! The serde of quantization.

extern crate alloc;

pub mod kernel;
pub mod scheme;

pub use scheme::{
    Axis, Block, Granularity, Grid, LayoutError, Mapping, NonFinite, QuantParams,
    QuantizationScheme, QuantizationType, Range, ScaleError, ScaleType, SchemeNameError,
};
