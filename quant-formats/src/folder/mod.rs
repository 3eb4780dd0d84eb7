//! Model directories: shards of safetensors with an index, `config.json`, tokenizer files, as
//! transformers, vLLM and `SGLang` load them.
//!
//! `compressed` says how quantized tensors are stored there, `config` what `config.json` says about
//! them, and `shards` which file has which tensor. `writer` writes them one at a time, and `journal`
//! remembers what is written. It imports the rooms up to `pipeline`. Start reading at `job`.

mod compressed;
mod config;
mod files;
mod forms;
mod job;
mod journal;
mod linear;
mod sequence;
mod shards;
mod writer;

pub use compressed::Inputs;
pub use job::{convert_folder, dequantize_folder, quantize_folder};
