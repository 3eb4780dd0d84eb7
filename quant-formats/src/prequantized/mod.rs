//! Checkpoints that another program has quantized already.
//!
//! `recognize` tells by names, types and shapes, and by the configuration beside the file, which
//! tensors are parts of quantized ones. `layout` checks whether their values can be computed, with a
//! module for each layout, and `scheme` whether a scheme of this library has their codes. `import`
//! shows a checkpoint with such tensors as one with their codes or values; it imports all the others,
//! and the rooms up to the formats. Start reading at `recognize`.

mod awq;
mod bits_and_bytes;
mod codes;
mod component;
mod config;
mod error;
mod fp4;
mod gptq;
mod import;
mod layout;
mod mlx;
mod packed;
mod recognize;
mod scaled;
mod scheme;
mod small_float;

pub use error::PreQuantizedError;
pub(crate) use import::import;
pub use import::import_bytes;
