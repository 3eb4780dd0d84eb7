//! safetensors: the format in which checkpoints are published.

mod catalog;
mod dtype;
mod error;
mod header;
mod names;
mod parts;
mod reader;
mod recorder;
mod writer;

pub use error::SafetensorsError;
pub(super) use parts::Parts;
pub(super) use reader::SafetensorsFile;
pub use recorder::SafetensorsRecorder;
pub(super) use writer::SafetensorsWriter;

use super::{Checkpoint, Entry, Format, Manifest, Stored};
