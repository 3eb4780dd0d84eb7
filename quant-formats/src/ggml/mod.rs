//! The types of ggml: what a tensor of a GGUF file is made of, and its blocks to floats and back.
//!
//! Nothing here reads files or knows where a tensor comes from: a record, too, may hold blocks. Start
//! reading at `types`. `scheme` has the types that a scheme describes; `kind` names tensors of the others
//! in other formats.

mod decode;
mod encode;
mod kind;
mod scheme;
mod types;

pub(crate) use decode::decode;
pub(crate) use encode::{ALL_F32, FILE_TYPE, encode};
pub use encode::{GgufEncoding, UnknownEncoding};
pub(crate) use kind::{blocks_of_kind, kind_of_tensor, tensor_of_kind};
pub(crate) use scheme::{blocks_to_tensor, tensor_to_blocks, type_of_scheme};
pub use types::GgufType;
pub(crate) use types::{Content, REFUSED};
