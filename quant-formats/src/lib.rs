#![cfg_attr(docsrs, feature(doc_cfg))]
//! Checkpoints: files of named tensors in any format, read and written one tensor at a time.
//!
//! A [`Recorder`](quant::record::Recorder) moves a whole model between memory and a file. A
//! [`Checkpoint`] is the open file: its names, shapes and types are known and checked, and values
//! are read on request. A checkpoint larger than memory can therefore be inspected, compared,
//! quantized and converted, without the Rust types it was made from.
//!
//! ```
//! use quant::Recipe;
//! use quant::{BincodeRecorder, Module, Param};
//! use quant_formats::Options;
//!
//! # let directory = std::env::temp_dir().join(format!("quant-doc-formats-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! # let path = directory.join("model.quant");
//! # let output = directory.join("int8.safetensors");
//! vec![Param::new([[0.5f32; 64]; 8])].save_file(&path, &BincodeRecorder::default())?;
//!
//! let checkpoint = quant_formats::open(&path)?;
//! assert_eq!(checkpoint.entries()[0].shape, [8, 64]);
//!
//! let recipe = Recipe::new().scheme("per-channel-symmetric-int8".parse()?);
//! let plan = quant_formats::quantize(&checkpoint, &recipe, &output, Options::default())?;
//! println!("{plan}");
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which function
//!
//! | to | use |
//! |---|---|
//! | load a model from a checkpoint of any format | [`open`], then [`Checkpoint::load_into`] |
//! | read a checkpoint tensor by tensor | [`open`], then [`Checkpoint::read`] |
//! | write one tensor by tensor | [`create`], then [`CheckpointWriter::write`] |
//! | see what quantization would do | [`plan()`]; [`plan_by_shapes`] without reading values; [`choose`] within a budget of bytes |
//! | quantize, dequantize or convert a file | [`quantize`], [`dequantize`], [`convert`] |
//! | quantize to blocks as llama.cpp does | [`quantize_to_blocks`] |
//! | do that to a model directory, as engines load it | [`quantize_folder`], [`dequantize_folder`], [`convert_folder`] |
//! | read the metadata of a GGUF file, arrays included | [`GgufMetadata`] |
//! | read and write second moments of inputs, for `gptq` and `weighted-mse` | [`MomentsFile`], [`write_moments`] |
//! | change the names of tensors | [`Rename`] |
//! | load or save a model in another format | [`SafetensorsRecorder`], [`GgufRecorder`], [`JsonRecorder`] |
//! | see errors tensor by tensor as an HTML page | [`report`] |
//!
//! # Formats
//!
//! | format | extension | read | written |
//! |---|---|---|---|
//! | [record](quant::record) | `.quant` | all, one file or shards | all, one file or shards |
//! | safetensors | `.safetensors` | F32, F16, BF16, and quantized tensors written here | F32, F16, BF16, and quantized tensors as codes, scales and zero points |
//! | safetensors in shards | `.safetensors.index.json` | the same | no |
//! | [GGUF](https://github.com/quant-rs/quant/blob/main/docs/gguf.md) | `.gguf` | all types; those that no scheme describes as floats, and copied unchanged | F32, F16, BF16, five schemes, and what was read |
//! | JSON | `.json` | what is written here | all |
//!
//! A foreign tensor of another type, such as I64, is a
//! [`RecordState`](quant::record::RecordState) whose kind is the type and shape, `tensor/I64 [1,
//! 512]`. It is copied unchanged and never quantized. A tensor in blocks of GGUF that no scheme
//! describes is stored like that, too, and is an entry that can be read as floats:
//! [`Stored::Blocks`].
//!
//! # Features
//!
//! | feature | default | without it |
//! |---|---|---|
//! | `report` | yes | there is no module `report` |
//! | `mmap` | no | there is no `open_mapped`: floats are read, not borrowed from a file |
//! | `rayon` | no | tensors are read and quantized on one thread |

mod blocks;
mod checkpoint;
mod checksums;
mod create;
mod declared;
mod effects;
mod encode;
mod entry;
mod equal;
mod error;
mod folder;
mod folder_error;
mod format;
mod ggml;
mod gguf;
mod in_memory;
mod json;
mod load;
mod memory;
mod method;
mod moments;
mod open;
mod options;
mod output;
mod piece;
mod pipeline;
mod prequantized;
mod record;
mod rename;
#[cfg(feature = "report")]
pub mod report;
mod rewrite;
mod safetensors;
mod sink;
mod source;
mod tensor_file;
mod text;

pub use checkpoint::Checkpoint;
pub use create::{CheckpointWriter, create};
pub use encode::{Encoded, quantize_to_blocks};
pub use entry::{Entry, StateEntry, Stored};
pub use error::CheckpointError;
pub use folder::{Inputs, convert_folder, dequantize_folder, quantize_folder};
pub use folder_error::FolderError;
pub use format::{ForeignFile, Format, FormatError};
pub use ggml::{GgufEncoding, GgufType, UnknownEncoding};
pub use gguf::{FromNumber, GgufError, GgufMetadata, GgufNumber, GgufRecorder};
pub use json::{JsonError, JsonRecorder};
pub use method::{Encoding, FloatReason, Method, PreQuantized, PreQuantizedTensor, Refusal};
pub use moments::{MomentsFile, MomentsFileError, write_moments};
#[cfg(feature = "mmap")]
pub use open::open_mapped;
pub use open::{open, open_ignoring_index};
pub use options::Options;
pub use prequantized::PreQuantizedError;
pub use rename::{Rename, RenameError};
pub use rewrite::{choose, convert, dequantize, plan, plan_by_shapes, quantize};
pub use safetensors::{SafetensorsError, SafetensorsRecorder};

/// For the command line. Not part of the public interface: any version may change it.
#[doc(hidden)]
pub mod __private {
    pub use crate::prequantized::import_bytes;
    pub use crate::text::{chain, is_invisible};
}
