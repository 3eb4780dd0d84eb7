#![no_std]
// Only the kernels have reasons for it, and write them down.
#![deny(unsafe_code)]
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

#[allow(unsafe_code)]
mod kernel;
pub mod scheme;

pub use kernel::{
    Activations, Codes, ConvError, ConvShape, Damage, Epilogue, Images, Kernel, KernelUnavailable,
    LinearError, LookupError, Output, PackError, PackedConv, PackedWeights, Scratch, Sharing,
    SubByte, Table, Weights,
};
pub use scheme::{Dynamic, Static};
