//! Second moments of the inputs of layers in files.
//!
//! `ours` is the layout of this project, in safetensors; `imatrix` is that of llama.cpp, in GGUF. `file`
//! reads both, and `write` writes ours. This room imports checkpoints. Start reading in `file.rs`.

mod error;
mod file;
mod imatrix;
mod ours;
mod write;

pub use error::MomentsFileError;
pub use file::MomentsFile;
pub use write::write_moments;
