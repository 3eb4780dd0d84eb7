//! Loops over numbers: the ground floor that executes quantized models.
//!
//! Everything here works on slices and knows nothing of modules, files or tensors. A [`Kernel`] is
//! one way to run those loops; every kernel gives the same bits for the same input, so a kernel is
//! a choice of speed only. [`Kernel::selected`] is the fastest one of this machine, or the one the
//! environment variable `QUANT_KERNEL` names:
//!
//! | name | needs | integer products |
//! |---|---|---|
//! | `scalar` | nothing; always compiled, defines the answer | plain multiplications |
//! | `avx2` | AVX2 and FMA | see the crate-private module `x86_64::avx2` |
//! | `avx-vnni` | AVX2, FMA and AVX-VNNI | `vpdpbusd` on 256 bits |
//! | `avx512-vnni` | AVX-512 F, BW, DQ, VL and VNNI | `vpdpbusd` on 512 bits |
//!
//! A further architecture is one folder beside `x86_64` (`aarch64` for NEON, `wasm32` for SIMD128)
//! with one file per kernel, and its entries in `dispatch`.
//!
//! Without the feature `std` a CPU cannot be asked what it supports; then only what the compiler
//! was told to enable is used, and `QUANT_KERNEL` is not read.

// A loop over the indices of fixed arrays is what becomes whole vectors; and it reads alike for one
// array and for three.
#![allow(clippy::needless_range_loop)]

mod call;
mod conv;
mod damage;
mod dispatch;
mod elementwise;
mod embedding;
mod error;
mod isa;
mod lanes;
mod linear;
mod order;
mod output;
mod product;
mod rows;
mod scalar;
mod subbyte;
mod threads;
mod tile;
mod unpack;
mod weight_only;
mod weights;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use conv::{ConvShape, Images, PackedConv};
pub use damage::Damage;
pub use dispatch::Kernel;
pub use embedding::Table;
pub use error::{ConvError, KernelUnavailable, LinearError, LookupError, PackError};
pub use linear::Activations;
pub use output::{Epilogue, Output};
pub use subbyte::SubByte;
pub use threads::Scratch;
pub use weights::{Codes, PackedWeights, Sharing, Weights};
