//! The interface between models and file formats, and its native implementation.

use alloc::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::Path;

use super::collection::Record;
use super::error::RecordError;
use crate::module::Walk;
use crate::record::format::version::RecordVersion;
use crate::record::read::record_file::RecordFile;
use crate::record::read::source;
use crate::record::write::atomic::{System, replace};
use crate::record::write::model;
use crate::record::write::shard_names::own_shards;

/// A file format for models.
///
/// [`BincodeRecorder`] is the native format. The methods of [`Module`](crate::Module) that save and load
/// take any recorder.
pub trait Recorder {
    /// Writes a model.
    ///
    /// # Errors
    /// The writer fails, or the format cannot represent the model.
    fn save(&self, model: &dyn Walk, writer: &mut dyn Write) -> Result<(), RecordError>;

    /// Reads a record that extends to the end of the input.
    ///
    /// `len` is the number of bytes that `reader` will return, if it is known. It lets a recorder
    /// reject impossible sizes immediately, and allocate possible ones at once.
    ///
    /// # Errors
    /// The reader fails, or the input is not a valid record of this format.
    fn load(&self, reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError>;

    /// Writes a model to a file in one step: after an error or a crash, the path has either the
    /// complete old content or the complete new one.
    ///
    /// The new content is written to a temporary file in the same directory, brought to the disk, and
    /// renamed. The permissions of an existing file are kept, and a symbolic link is followed. After an
    /// error the old file is unchanged and the temporary file removed, unless the last step failed,
    /// which brings the new name to the disk.
    ///
    /// # Errors
    /// Those of [`save`](Self::save), and [`RecordError::Io`], also if the path is that of something
    /// other than a regular file.
    fn save_file(&self, model: &dyn Walk, path: &Path) -> Result<(), RecordError> {
        replace(&System, path, own_shards, |writer| self.save(model, writer))
            .map_err(|error| error.in_file(path))
    }

    /// Reads a record from a file.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), and [`RecordError::Io`].
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

/// The native format: a validated header, and checksummed sections on 64-byte boundaries.
///
/// `docs/record-format.md` describes every byte.
///
/// ```
/// use quant::{BincodeRecorder, Module, Param};
///
/// let recorder = BincodeRecorder::default().metadata("trained", "2025-01-01");
/// let bytes = Param::new([1.0f32, 2.0]).save_bytes(&recorder)?;
/// let param = Param::new([0.0f32; 2]).load_bytes(&bytes, &recorder)?;
/// assert_eq!(*param.value(), [1.0, 2.0]);
/// # Ok::<(), quant::RecordError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BincodeRecorder {
    metadata: BTreeMap<String, String>,
    max_shard_size: Option<u64>,
    version: Option<RecordVersion>,
}

impl BincodeRecorder {
    /// Adds this pair to the metadata of every saved record. It replaces a pair of the model with the
    /// same key.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Saves records of this version. By default, a record has version 1, or version 2 if it has
    /// floats of half precision or codes of 3, 5, 6 or 7 bits, which take less there.
    ///
    /// Saving a model with floats of half precision as version 1 is an error.
    ///
    /// ```
    /// use quant::record::RecordVersion;
    /// use quant::{BincodeRecorder, Module, Param};
    ///
    /// let recorder = BincodeRecorder::default().version(RecordVersion::V1);
    /// let bytes = Param::new([1.0f32, 2.0]).save_bytes(&recorder)?;
    /// assert_eq!(bytes[8], 1);
    /// # Ok::<(), quant::RecordError>(())
    /// ```
    #[must_use]
    pub fn version(mut self, version: RecordVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Splits saved records into shards of at most `bytes` bytes, for file systems and services that
    /// limit the size of a file.
    ///
    /// A larger record becomes several files, its shards, and a small file at the path, their index; it
    /// is loaded from that path like any other record. A shard is larger than `bytes` only if it holds
    /// a single tensor. The names of shards differ for each save, so the old record is complete until
    /// the new index replaces the old one; then the old shards are removed. To move a record, move all
    /// files whose names start with its name.
    ///
    /// Records that are saved to bytes or to a writer are never split.
    ///
    /// ```
    /// use quant::{BincodeRecorder, Module, Param};
    ///
    /// # let directory = std::env::temp_dir().join(format!("quant-doc-shards-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # let path = directory.join("model.quant");
    /// let model = vec![Param::new([1.0f32; 300]), Param::new([2.0; 300])];
    /// model.save_file(&path, &BincodeRecorder::default().max_shard_size(2000))?;
    /// assert_eq!(std::fs::read_dir(&directory)?.count(), 3);
    ///
    /// let model = vec![Param::new([0.0f32; 300]), Param::new([0.0; 300])];
    /// let model = model.load_file(&path, &BincodeRecorder::default())?;
    /// assert_eq!(*model[1].value(), [2.0; 300]);
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn max_shard_size(mut self, bytes: u64) -> Self {
        self.max_shard_size = Some(bytes);
        self
    }
}

impl Recorder for BincodeRecorder {
    fn save(&self, model: &dyn Walk, writer: &mut dyn Write) -> Result<(), RecordError> {
        Ok(model::whole(model, &self.metadata, self.version, writer)?)
    }

    fn load(&self, reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError> {
        Ok(source::load(reader, len)?)
    }

    fn save_file(&self, model: &dyn Walk, path: &Path) -> Result<(), RecordError> {
        match self.max_shard_size {
            None => replace(&System, path, own_shards, |writer| self.save(model, writer)),
            Some(max) => {
                let (metadata, version) = (&self.metadata, self.version);
                model::sharded(model, metadata, version, max, System, path)
                    .map_err(RecordError::from)
            }
        }
        .map_err(|error| error.in_file(path))
    }

    /// Reads a record from a file or from its shards, in parallel with the feature `rayon`.
    fn load_file(&self, path: &Path) -> Result<Record, RecordError> {
        // A pipe can only be read from start to end.
        let is_other = |metadata: fs::Metadata| !metadata.is_file() && !metadata.is_dir();
        if fs::metadata(path).is_ok_and(is_other) {
            return load_file(self, path).map_err(|error| error.in_file(path));
        }
        RecordFile::open(path)?.read_all()
    }
}
