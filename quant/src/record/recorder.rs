//! The seam between models and file formats.

use alloc::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use super::atomic::{self, System};
use super::{Record, RecordError, reader, writer};
use crate::module::Module;

/// A file format for models.
///
/// [`BincodeRecorder`] is the native one. The methods of [`Module`] that save and load take any.
pub trait Recorder {
    /// Writes a model.
    ///
    /// # Errors
    /// The writer's, or a model that the format cannot hold.
    fn save(&self, model: &dyn Module, writer: &mut dyn Write) -> Result<(), RecordError>;

    /// Reads a record that takes all of the input.
    ///
    /// `len` is the number of bytes that `reader` will give, if that is known: a recorder then
    /// refuses sizes that cannot be true at once, and makes room for the true ones in one piece.
    ///
    /// # Errors
    /// The reader's, or anything that is not a record of this format.
    fn load(&self, reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError>;

    /// Writes a model to a file, of which there is afterwards either the old or the new content,
    /// complete, whatever happens.
    ///
    /// The new content is written to a file beside it, brought to the disk, and then given the
    /// name of the old one. An existing file's permissions are kept, and a symbolic link is
    /// followed; something else than a file, such as a device, is refused. After an error the old
    /// file is untouched and the new one removed, unless the very last step failed, which brings
    /// the new name to the disk.
    ///
    /// # Errors
    /// Those of [`save`](Self::save), and the system's.
    fn save_file(&self, model: &dyn Module, path: &Path) -> Result<(), RecordError> {
        atomic::replace(&System, path, |writer| self.save(model, writer))
            .map_err(|error| error.in_file(path))
    }

    /// Reads a record from a file.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), and the system's.
    fn load_file(&self, path: &Path) -> Result<Record, RecordError> {
        let load = || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            let len = metadata.is_file().then_some(metadata.len());
            self.load(&mut BufReader::with_capacity(64 << 10, file), len)
        };
        load().map_err(|error| error.in_file(path))
    }
}

/// The native format: a checked header, and checksummed payloads on 64-byte boundaries.
///
/// `docs/record-format.md` describes every byte of it.
///
/// ```
/// use quant::{BincodeRecorder, Module, Param};
///
/// let recorder = BincodeRecorder::default().with_metadata("trained", "2025-01-01");
/// let bytes = Param::new([1.0f32, 2.0]).save_bytes(&recorder)?;
/// let param = Param::new([0.0f32; 2]).load_bytes(&bytes, &recorder)?;
/// assert_eq!(*param.value(), [1.0, 2.0]);
/// # Ok::<(), quant::RecordError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BincodeRecorder {
    metadata: BTreeMap<String, String>,
}

impl BincodeRecorder {
    /// The recorder that adds this pair to what it saves, in place of a pair of the model with this key.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }
}

impl Recorder for BincodeRecorder {
    fn save(&self, model: &dyn Module, writer: &mut dyn Write) -> Result<(), RecordError> {
        writer::save(model, &self.metadata, writer)
    }

    fn load(&self, reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError> {
        reader::load(reader, len)
    }
}
