//! The seam between models and file formats.

use alloc::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use super::collection::Record;
use super::error::RecordError;
use crate::module::Walk;
use crate::record::read::record_file::RecordFile;
use crate::record::read::source;
use crate::record::write::atomic::{self, System};
use crate::record::write::model;

/// A file format for models.
///
/// [`BincodeRecorder`] is the native one. The methods of [`Module`](crate::Module) that save and load take any.
pub trait Recorder {
    /// Writes a model.
    ///
    /// # Errors
    /// The writer's, or a model that the format cannot hold.
    fn save(&self, model: &dyn Walk, writer: &mut dyn Write) -> Result<(), RecordError>;

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
    fn save_file(&self, model: &dyn Walk, path: &Path) -> Result<(), RecordError> {
        atomic::replace(&System, path, |writer| self.save(model, writer))
            .map_err(|error| error.in_file(path))
    }

    /// Reads a record from a file.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), and the system's.
    fn load_file(&self, path: &Path) -> Result<Record, RecordError> {
        load_file(self, path).map_err(|error| error.in_file(path))
    }
}

fn load_file(recorder: &(impl Recorder + ?Sized), path: &Path) -> Result<Record, RecordError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let len = metadata.is_file().then_some(metadata.len());
    recorder.load(&mut BufReader::with_capacity(64 << 10, file), len)
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
    max_part_size: Option<u64>,
}

impl BincodeRecorder {
    /// The recorder that adds this pair to what it saves, in place of a pair of the model with this key.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// The recorder that saves files of at most this many bytes, for file systems and services
    /// that have a limit.
    ///
    /// A record that would be larger becomes several files, its parts, and a small file at the
    /// path that is the index of them; it is loaded by that path, like any other. A part is never
    /// larger than `bytes` unless it holds a single tensor, and has a name that no other save
    /// gives: the old record is there, complete, until the index takes its place. Then its parts
    /// are removed. To move a record, move all files that start with its name.
    ///
    /// What is saved to bytes or to a writer is in one piece whatever its size.
    ///
    /// ```
    /// use quant::{BincodeRecorder, Module, Param};
    ///
    /// # let directory = std::env::temp_dir().join(format!("quant-doc-parts-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # let path = directory.join("model.quant");
    /// let model = vec![Param::new([1.0f32; 300]), Param::new([2.0; 300])];
    /// model.save_file(&path, &BincodeRecorder::default().with_max_part_size(2000))?;
    /// assert_eq!(std::fs::read_dir(&directory)?.count(), 3);
    ///
    /// let model = vec![Param::new([0.0f32; 300]), Param::new([0.0; 300])];
    /// let model = model.load_file(&path, &BincodeRecorder::default())?;
    /// assert_eq!(*model[1].value(), [2.0; 300]);
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_max_part_size(mut self, bytes: u64) -> Self {
        self.max_part_size = Some(bytes);
        self
    }
}

impl Recorder for BincodeRecorder {
    fn save(&self, model: &dyn Walk, writer: &mut dyn Write) -> Result<(), RecordError> {
        model::whole(model, &self.metadata, writer)
    }

    fn load(&self, reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError> {
        source::load(reader, len)
    }

    fn save_file(&self, model: &dyn Walk, path: &Path) -> Result<(), RecordError> {
        match self.max_part_size {
            None => atomic::replace(&System, path, |writer| self.save(model, writer)),
            Some(max) => model::in_parts(model, &self.metadata, max, System, path),
        }
        .map_err(|error| error.in_file(path))
    }

    /// Reads a record from a file, or from the parts that it is the index of; several tensors at
    /// a time with the feature `rayon`.
    fn load_file(&self, path: &Path) -> Result<Record, RecordError> {
        if path.is_file() {
            return RecordFile::open(path)?.read_all();
        }
        load_file(self, path).map_err(|error| error.in_file(path))
    }
}
