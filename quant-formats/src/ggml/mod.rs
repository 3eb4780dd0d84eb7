//! The types of ggml: what a tensor of a GGUF file is made of, and its blocks to floats and back.
//!
//! Nothing here reads files or knows where a tensor comes from: a record, too, may hold blocks. Start
//! reading at `types`; `kind` names tensors of these types in other formats.

mod decode;
mod encode;
mod kind;
mod types;

pub(crate) use decode::decode;
pub(crate) use encode::{ALL_F32, FILE_TYPE, encode};
pub use encode::{GgufEncoding, UnknownEncoding};
pub(crate) use kind::{blocks_of_kind, kind_of_tensor, tensor_of_kind};
pub use types::GgufType;
pub(crate) use types::{Content, REFUSED};
