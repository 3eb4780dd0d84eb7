//! How the inputs of integer products are quantized.
//!
//! A layer has an [`ActivationQuantizer`] beside its parameters. It is a leaf of the module tree:
//! recipes address it by its path, records save it, and the layer asks it what to do.
//!
//! ```text
//!             prepare               calibrate, convert
//! float  ──────────────▶ observing ─────────────────────▶ static
//!        ──────────────▶ dynamic
//! ```

mod calibrate;
mod quantizer;
mod saved;
#[cfg(feature = "candle")]
mod training;

pub use crate::scheme::{ActivationScheme, ActivationSchemeError};
pub use calibrate::{CalibrateError, ConvertError};
pub use quantizer::{ActivationError, ActivationMode, ActivationQuantizer};

pub(crate) use calibrate::{calibrate, convert, prepare};
pub(crate) use saved::RECORD_KIND;
