//! `#[derive(Module)]` for the `quant` crate.
