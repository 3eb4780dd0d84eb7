#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
// Only the kernels have reasons for it, and write them down.
#![deny(unsafe_code)]
// A loop over the indices of fixed arrays is what becomes whole vectors; and it reads alike for one
// array and for three.
#![allow(clippy::needless_range_loop)]
//! What quantized numbers mean, and the loops over them.
//!
//! [`scheme`] holds code types, mappings, granularities, scales and zero points; [`Kernel`] runs
//! the loops. Every kernel gives the same bits on every CPU.
//!
//! # Features
//!
//! | feature | default | without it |
//! |---|---|---|
//! | `std` | yes | the CPU is not asked which kernel it has, and `QUANT_KERNEL` is not read |
//! | `rayon` | no | products run on the calling thread alone |
//! | `serde` | no | schemes and ranges are not serializable |

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod bits;
mod conv;
mod dispatch;
mod elementwise;
mod embedding;
mod error;
#[allow(unsafe_code)]
mod gemm;
#[allow(unsafe_code)]
mod isa;
mod pack;
mod parallel;
pub mod scheme;
#[allow(unsafe_code)]
mod weight_only;

pub use bits::BitWidth;
pub use conv::{ConvShape, Images, PackedConv};
pub use dispatch::Kernel;
pub use elementwise::QuantError;
pub use embedding::EmbeddingWeights;
pub use error::{ConvError, KernelUnavailable, LinearError, LookupError, PackError};
pub use gemm::{Activations, Epilogue, Output, Scratch};
pub use pack::{Codes, PackedWeights, Weights};
