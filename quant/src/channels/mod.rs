//! Moving factors of channels from one layer to the next, before a model is quantized.
//!
//! Where a layer's outputs `y` go through a function with `f(s · y) = s · f(y)` for `s > 0`, such as ReLU, or
//! through none, into other layers, the model computes the same if output `c` is divided by `s_c`, and what
//! the next layers multiply it with is multiplied by `s_c`. A user names such [pairs](ChannelPair), since a
//! model does not say how its layers are connected; [`ChannelMethod`] says which factors are best.
//!
//! This room imports `moments`, `quantize` and `module`. Start reading in `rescale.rs`.

mod error;
mod factors;
mod pair;
mod rescale;
mod weights;

pub use error::RescaleError;
pub use factors::ChannelMethod;
pub use pair::ChannelPair;
pub use rescale::{Rescaled, RescaledPair, rescale};
