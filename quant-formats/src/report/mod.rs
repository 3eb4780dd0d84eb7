//! A page about what quantization did to a model: one HTML file that needs nothing else.
//!
//! A [`TensorReport`] keeps of one tensor what the page shows, in a few kilobytes, so that a
//! program that holds one tensor at a time can make a [`Report`] of any number of them.

mod checkpoint;
mod page;
mod picture;
mod tensor;
mod text;

pub use checkpoint::{tensors, tensors_against};
pub use page::Report;
pub use tensor::TensorReport;
