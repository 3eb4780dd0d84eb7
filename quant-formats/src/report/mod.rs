//! The effect of quantization on a model, as one HTML page.
//!
//! A [`TensorReport`] holds what the page shows of one tensor, in less than 4 KiB, so that a program
//! with one tensor in memory at a time can make a [`Report`] of any number of them. Imports run
//! down: `page`, `each`, `layers`, `detail`, `picture` and `text`, `tensor`, `measure`. Start reading at [`Report`].

mod checkpoint;
mod detail;
mod each;
mod layers;
mod measure;
mod page;
mod picture;
mod tensor;
mod text;

pub use checkpoint::{tensors, tensors_against};
pub use page::Report;
pub use tensor::TensorReport;
