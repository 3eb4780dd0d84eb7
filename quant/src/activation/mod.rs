//! How the inputs of integer products are quantized.
//!
//! A layer has an [`ActivationQuantizer`] beside its parameters. It is a state leaf of the model:
//! recipes address it by its path, records save it, and the layer asks it for the mode.
//!
//! ```text
//!             prepare               calibrate, convert
//! float  ──────────────▶ observing ─────────────────────▶ static
//!        ──────────────▶ dynamic
//!        ──────────────▶ pending                             (quantize_weights alone)
//!       quantize_weights
//! ```
//!
//! Attention has a [`KeyValueQuantizer`], which says how keys and values are kept.
//!
//! This room imports `moments`, `module`, `calibration` and `scheme`. Start reading in `quantizer.rs`.

mod bias;
mod compare_error;
mod convert;
mod key_values;
mod moments;
mod observation;
mod output_taps;
mod outputs;
mod quantizer;
mod saved;
mod state;
mod taps;
mod training;

pub use bias::{BiasCorrection, CorrectedLayer};
pub use compare_error::CompareError;
pub use convert::ConvertError;
pub use key_values::KeyValueQuantizer;
pub use quantizer::{ActivationError, ActivationMode, ActivationQuantizer};

pub use crate::scheme::ActivationScheme;

#[doc(hidden)]
pub use self::{
    convert::{convert, for_each_activation, for_each_activation_mut},
    observation::Observation,
    training::ActivationTraining,
};
pub(crate) use convert::{follow_weights, quantized_paths};
pub(crate) use key_values::{key_value_paths, set_key_values};
pub use moments::ObserveError;
pub use outputs::{ComparedLayer, LayerComparison};
