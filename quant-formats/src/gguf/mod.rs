//! GGUF: the format of llama.cpp.
//!
//! `metadata` and `header` describe the format, whose types are in `crate::ggml`. `layout` and
//! `carried` say how a checkpoint becomes a file, and how a file travels through other formats;
//! `parts` finds the files of a split
//! one; `reader`, `writer` and `recorder` do the work. Start reading at `header`.

mod carried;
mod cursor;
mod elements;
mod error;
mod header;
mod layout;
mod metadata;
mod number;
mod parts;
mod reader;
mod recorder;
mod values;
mod writer;

pub(crate) use carried::is_header_kind;
pub use error::GgufError;
pub use number::{FromNumber, GgufNumber};
pub(crate) use reader::GgufFile;
pub use recorder::GgufRecorder;
pub use values::GgufMetadata;
pub(crate) use writer::GgufWriter;
