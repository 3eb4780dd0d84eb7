//! What training attaches to parameters and activation quantizers: phases, scales, train mode.
//!
//! The backend for candle asks it how to quantize; `training` changes it. This room imports
//! `fake_quant` at most. Start reading in `phase.rs`, then `weight.rs`.

pub(crate) mod activation;
pub(crate) mod phase;
pub(crate) mod scale;
pub(crate) mod train_mode;
mod variable;
pub(crate) mod weight;

pub(crate) use activation::learned_scale;
pub(crate) use train_mode::updates_statistics;
pub(crate) use variable::variable;
pub(crate) use weight::FakeWeight;
