#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
// Only the kernels have reasons for it, and write them down.
#![deny(unsafe_code)]
// A loop over the indices of fixed arrays is what becomes whole vectors; and it reads alike for one
// array and for three.
#![allow(clippy::needless_range_loop)]
//! Exact int8 and int4 matrix products, and the quantization around them.
//!
//! Activations of 8 bits are multiplied with weights of 8, 4 or 2 bits, and products are summed in
//! i32 without saturation. Every kernel gives the same bits on every CPU, for every input.
//!
//! ```
//! use quant_kernels::scheme::{Axis, Granularity};
//! use quant_kernels::{Activations, Codes, Epilogue, Kernel, Output, PackedWeights, Scratch, Weights};
//!
//! // Two outputs, three inputs: w = [[1, 2, 3], [-4, 5, -6]], each row with a scale.
//! let kernel = Kernel::current();
//! let weights = PackedWeights::new(kernel, &Weights {
//!     n: 2,
//!     k: 3,
//!     codes: Codes::Bytes(&[1, 2, 3, -4, 5, -6]),
//!     granularity: Granularity::PerChannel(Axis::FIRST),
//!     scales: &[0.5, 0.25],
//!     zero_points: &[],
//!     minimums: &[],
//! })?;
//! let x = Activations::Codes { codes: &[7, -8, 9], m: 1, scales: &[0.1], zero_points: &[] };
//! let (mut sums, mut scratch) = ([0; 2], Scratch::new());
//! kernel.linear(&weights, x, &Epilogue::default(), Output::I32(&mut sums), &mut scratch)?;
//! assert_eq!(sums, [18, -122]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which function for which job
//!
//! | job | function |
//! |---|---|
//! | int8 × int8, int8 × int4 or int8 × int2 | [`Kernel::linear`] with [`Activations::Codes`] |
//! | float activations, quantized by their own range | [`Activations::Dynamic`] |
//! | float activations, quantized by a calibrated range | [`Activations::Static`] |
//! | float activations times quantized weights (weight-only) | [`Activations::Float`] and [`PackedWeights::for_floats`] |
//! | accumulators, floats, or int8 outputs; bias and `relu` | [`Output`], [`Epilogue`] |
//! | convolution | [`PackedConv`], [`Kernel::conv2d`] |
//! | transposed convolution | [`PackedConvTranspose`], [`Kernel::conv_transpose2d`] |
//! | rows of a quantized table | [`Kernel::embedding`] |
//! | softmax and norms | [`Kernel::softmax`], [`Kernel::rms_norm`], [`Kernel::layer_norm`] |
//! | functions of one value, and gates | [`Kernel::silu`], [`Kernel::gelu`], [`Kernel::gelu_tanh`], [`Kernel::swiglu`] |
//! | rotary embeddings | [`Rope`], [`Kernel::rope`] |
//! | causal attention, grouped queries, keys and values in 8 or 4 bits | [`KeyValueCache`], [`Kernel::attention`] |
//! | floats to codes and back | [`Kernel::quantize`], [`Kernel::dequantize`]; packed: [`Kernel::quantize_packed`] |
//! | codes of 4 and 2 bits to bytes and back | [`Kernel::pack`], [`Kernel::unpack`], [`scheme::packing`] |
//! | a range, and the first value that is not finite | [`Kernel::min_max`], [`Kernel::first_nan`] |
//! | the error of quantization | [`Kernel::quant_error`] |
//! | a linear layer without a heap, one output at a time | [`row`] |
//! | scales and zero points for a range | [`scheme::Grid::params`] |
//!
//! Functions of floats give the same bits on every CPU, too: their operations have one order, whatever
//! the width of vectors.
//!
//! Weights are packed once, for one kernel, and refused by any other. A [`Scratch`] is kept between
//! calls, which then allocate nothing.
//!
//! # Kernels
//!
//! [`Kernel::selected`] is the fastest kernel of this machine, or the one that the environment
//! variable `QUANT_KERNEL` names:
//!
//! | name | needs | integer products |
//! |---|---|---|
//! | `scalar` | nothing; always compiled, defines the answer | plain multiplications |
//! | `avx2` | AVX2, FMA and F16C | `vpmaddubsw` where the packed codes prove that i16 cannot overflow, else `vpmaddwd` |
//! | `avx-vnni` | AVX2, FMA, F16C and AVX-VNNI | `vpdpbusd` on 256 bits |
//! | `avx512-vnni` | AVX-512 F, BW, DQ, VL and VNNI | `vpdpbusd` on 512 bits |
//! | `neon` | NEON, which every aarch64 CPU with vectors has | `smull` and `sadalp` |
//! | `neon-dotprod` | NEON and the dot product | `sdot` |
//! | `simd128` | wasm32, compiled with `-C target-feature=+simd128` | `i32x4.dot_i16x8_s` |
//!
//! # Features
//!
//! | feature | default | without it |
//! |---|---|---|
//! | `std` | yes | the crate is `no_std`; only CPU features that the compiler was told to enable are used, and `QUANT_KERNEL` is not read |
//! | `alloc` | with `std` | no memory is allocated: there are [`scheme`], without names and what returns a `Vec`, and [`row`], and nothing else |
//! | `rayon` | no | products run on the calling thread alone |
//! | `serde` | no | schemes, ranges and parameters are not serializable |
//!
//! The crate depends on `bytemuck` alone unless another feature is chosen, and on nothing without `alloc`.

// Modules import downwards: `scheme` → `row`; `scheme` → `isa` → `dispatch`, `parallel` → `float`, `elementwise` → `bits` →
// `pack` → `gemm` → `weight_only`, `conv`, `embedding`, `attention`. A further architecture is one folder beside
// `isa/x86_64` with one file per kernel, and its entries in `dispatch`.

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "alloc")]
mod attention;
#[cfg(feature = "alloc")]
mod bits;
#[cfg(feature = "alloc")]
mod conv;
#[cfg(feature = "alloc")]
mod dispatch;
#[cfg(feature = "alloc")]
mod elementwise;
#[cfg(feature = "alloc")]
mod embedding;
#[cfg(feature = "alloc")]
mod error;
#[cfg(feature = "alloc")]
mod float;
#[cfg(feature = "alloc")]
#[allow(unsafe_code)]
mod gemm;
#[cfg(feature = "alloc")]
#[allow(unsafe_code)]
mod isa;
#[cfg(feature = "alloc")]
mod pack;
#[cfg(feature = "alloc")]
mod parallel;
pub mod row;
pub mod scheme;
#[cfg(feature = "alloc")]
#[allow(unsafe_code)]
mod weight_only;

#[cfg(feature = "alloc")]
pub use attention::{AttentionError, AttentionScratch, KeyValueCache, KeyValueShape};
#[cfg(feature = "alloc")]
pub use bits::BitWidth;
#[cfg(feature = "alloc")]
pub use conv::{ConvShape, ConvTransposeShape, Images, PackedConv, PackedConvTranspose};
#[cfg(feature = "alloc")]
pub use dispatch::Kernel;
#[cfg(feature = "alloc")]
pub use elementwise::QuantError;
#[cfg(feature = "alloc")]
pub use embedding::EmbeddingWeights;
#[cfg(feature = "alloc")]
pub use error::{ConvError, KernelUnavailable, LinearError, LookupError, PackError};
#[cfg(feature = "alloc")]
pub use float::{FloatError, Rope, RopeAngles, RopeError, RopeLayout, RopeOptions, RopeScaling};
#[cfg(feature = "alloc")]
pub use gemm::{Activations, Epilogue, Output, Product, Scratch};
#[cfg(feature = "alloc")]
pub use pack::{Codes, PackedWeights, WeightRow, Weights};
