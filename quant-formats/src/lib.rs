#![cfg_attr(docsrs, feature(doc_cfg))]
//! Files of named tensors, whatever their format, one tensor at a time.
//!
//! A [`Recorder`](quant::Recorder) moves a model between memory and a file; a [`Checkpoint`] is the
//! file itself, opened: what it holds is known and checked, and values are read when they are asked
//! for. So a checkpoint larger than memory can be inspected, compared, quantized and converted,
//! without the Rust types it was made from.
//!
//! ```
//! use quant::{BincodeRecorder, Module, Param};
//!
//! # let directory = std::env::temp_dir().join(format!("quant-doc-checkpoint-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! # let path = directory.join("model.quant");
//! # let copy = directory.join("copy.quant");
//! vec![Param::new([[1.0f32, -2.0], [0.5, 4.0]])].save_file(&path, &BincodeRecorder::default())?;
//!
//! let checkpoint = quant_formats::open(&path)?;
//! assert_eq!(checkpoint.entries()[0].shape, [2, 2]);
//!
//! let mut writer = quant_formats::create(&copy, checkpoint.manifest()?)?;
//! for index in 0..checkpoint.entries().len() {
//!     writer.write(checkpoint.entries()[index].id.as_str(), &checkpoint.read(index)?)?;
//! }
//! writer.finish()?;
//! assert_eq!(std::fs::read(&path)?, std::fs::read(&copy)?);
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | format | extension | read | written |
//! |---|---|---|---|
//! | [record](quant::record) | `.quant` | all | all |
//! | safetensors | `.safetensors` | F32, F16, BF16, and what is written here | F32, and quantized tensors as codes, scales and zero points |
//! | safetensors in parts | `.safetensors.index.json` | the same | no |
//! | JSON | `.json` | what is written here | all |
//!
//! What a foreign file holds besides floats, such as indices of type I64, is kept as a
//! [`RecordState`] of a kind like `tensor/I64 [1, 512]`, and written as it was.
//! [`Rename`] makes foreign names fit.
//!
//! # Features
//!
//! | feature | default | without it |
//! |---|---|---|
//! | `report` | yes | there is no `report`: no pages |
//! | `rayon` | no | one tensor at a time is read and quantized |

mod format;
mod json;
mod memory;
mod native;
mod open;
mod rename;
#[cfg(feature = "report")]
pub mod report;
mod rewrite;
mod safetensors;

use core::fmt;
use std::collections::BTreeMap;

pub use format::{Format, FormatError};
pub use json::{JsonError, JsonRecorder};
pub use open::{create, open};
pub use rename::{Rename, RenameError};
pub use rewrite::{CheckpointError, Options, choose, convert, dequantize, plan, quantize};
pub use safetensors::{SafetensorsError, SafetensorsRecorder};

use quant::module::ParamId;
pub use quant::record::Manifest;
use quant::record::{RecordEntry, RecordError, RecordState};
use quant::scheme::QuantizationScheme;
use quant::tensor::Tensor;

/// A file of named tensors, opened.
///
/// What the file says about its tensors has been checked; their bytes have not been read.
pub trait Checkpoint: Send + Sync {
    /// The file's format.
    fn format(&self) -> Format;

    /// The user's own pairs, by key.
    fn metadata(&self) -> &BTreeMap<String, String>;

    /// What is known about each tensor, in order.
    fn entries(&self) -> &[Entry];

    /// Reads the tensor at this position in [`entries`](Self::entries).
    ///
    /// # Errors
    /// Those of the system, and damage that is noticed.
    ///
    /// # Panics
    /// If there is no such entry.
    fn read(&self, index: usize) -> Result<Tensor, RecordError>;

    /// Reads a tensor as [`read`](Self::read) does, into memory that is there already if the
    /// format can use it: whoever reads one tensor after another spends more time on finding
    /// memory than on filling it.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    ///
    /// # Panics
    /// If there is no such entry.
    fn read_into(&self, index: usize, memory: Vec<f32>) -> Result<Tensor, RecordError> {
        drop(memory);
        self.read(index)
    }

    /// Reads the bytes of a tensor, compares them with what the file says about them, and keeps
    /// nothing. Formats without checksums have little to compare.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    ///
    /// # Panics
    /// If there is no such entry.
    fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.read(index).map(drop)
    }

    /// Reads what the file keeps besides parameters.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    fn states(&self) -> Result<Vec<RecordState>, RecordError>;

    /// The manifest of a copy. Floats of half precision become single in it.
    ///
    /// # Errors
    /// The states cannot be read.
    fn manifest(&self) -> Result<Manifest, RecordError> {
        let entry = |it: &Entry| RecordEntry::new(it.id.clone(), it.shape.clone(), it.scheme());
        Ok(Manifest::new(self.entries().iter().map(entry))
            .with_metadata(self.metadata().clone())
            .with_states(self.states()?))
    }

    /// The position of the tensor of this name.
    fn position(&self, name: &str) -> Option<usize> {
        self.entries().iter().position(|entry| entry.id == *name)
    }
}

/// What a checkpoint says about a tensor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The name.
    pub id: ParamId,
    /// The extent of each axis.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub stored: Stored,
    /// The bytes that they take in the file.
    pub bytes: u64,
}

impl Entry {
    /// The entry of a tensor that is stored as records have it.
    fn of_record(entry: RecordEntry) -> Self {
        let bytes = entry.byte_count();
        let RecordEntry { id, shape, scheme, .. } = entry;
        Self { id, shape, stored: scheme.map_or(Stored::F32, Stored::Quantized), bytes }
    }

    /// The number of elements.
    pub fn element_count(&self) -> usize {
        // Whoever made the entry has counted them.
        quant::__private::element_count(&self.shape).unwrap_or(usize::MAX)
    }

    /// How it is quantized, if it is.
    pub fn scheme(&self) -> Option<QuantizationScheme> {
        match self.stored {
            Stored::Quantized(scheme) => Some(scheme),
            _ => None,
        }
    }
}

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stored {
    /// In single precision.
    F32,
    /// In half precision; read as single.
    F16,
    /// In the upper half of single precision; read as single.
    Bf16,
    /// As codes.
    Quantized(QuantizationScheme),
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.pad("f32"),
            Self::F16 => f.pad("f16"),
            Self::Bf16 => f.pad("bf16"),
            Self::Quantized(scheme) => f.pad(&format!("{scheme}")),
        }
    }
}

/// The tensors of a checkpoint as they are written elsewhere, each with the scheme that `scheme`
/// says.
fn record_entries(
    checkpoint: &dyn Checkpoint,
    scheme: impl Fn(&Entry) -> Option<QuantizationScheme>,
) -> Vec<RecordEntry> {
    let entry = |it: &Entry| RecordEntry::new(it.id.clone(), it.shape.clone(), scheme(it));
    checkpoint.entries().iter().map(entry).collect()
}

/// A file that is being written, one tensor at a time.
///
/// There is no file of the name, or the old one, until [`finish`](Self::finish) has returned; a
/// writer that is dropped leaves nothing behind.
pub trait CheckpointWriter {
    /// Writes the next tensor of the manifest.
    ///
    /// # Errors
    /// The tensor is not the one that the manifest has next, or the system cannot write.
    fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError>;

    /// Gives the file its name.
    ///
    /// # Errors
    /// Tensors are missing, or the system cannot write.
    fn finish(self: Box<Self>) -> Result<(), RecordError>;
}
