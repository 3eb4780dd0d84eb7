//! safetensors: the format in which most checkpoints are published.
//!
//! `dtype`, `header` and `names` describe the format; `catalog` tells parameters, their scales and
//! other tensors apart; `reader`, `shards`, `writer` and `recorder` do the work. Only those import
//! other modules of this crate. Start reading at `header`, then `names`.

mod catalog;
mod dtype;
mod elements;
mod error;
mod header;
mod names;
mod reader;
mod recorder;
mod shards;
mod writer;

pub(crate) use catalog::{foreign, foreign_kind};
pub(crate) use dtype::Dtype;
pub use error::SafetensorsError;
pub(crate) use header::{Header, METADATA, Slot, describe};
pub(crate) use names::stored_metadata;
pub(crate) use reader::SafetensorsFile;
pub use recorder::SafetensorsRecorder;
pub(crate) use shards::Shards;
pub(crate) use writer::SafetensorsWriter;
