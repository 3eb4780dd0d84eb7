//! Writing a checkpoint tensor by tensor.

use std::path::{Path, PathBuf};

use quant::RecordError;
use quant::Tensor;
use quant::record::{AtomicFile, Manifest, RecordEntry, RecordWriter};

use crate::format::{Format, FormatError};
use crate::gguf::GgufWriter;
use crate::json::JsonWriter;
use crate::safetensors::SafetensorsWriter;
use crate::sink::{Next, Part, Sink};

/// Starts writing a checkpoint in the format of the path's extension.
///
/// ```
/// use quant::record::{Manifest, RecordEntry};
/// use quant::Tensor;
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-create-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("model.safetensors");
/// let manifest = Manifest::new([RecordEntry::new("bias", [2], None)]);
/// let mut writer = quant_formats::create(&path, manifest)?;
/// writer.write("bias", &Tensor::from_values(&[2], vec![0.5, -1.0])?)?;
/// writer.finish()?;
///
/// let checkpoint = quant_formats::open(&path)?;
/// assert_eq!(*checkpoint.read(0)?.values(), [0.5, -1.0]);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The extension belongs to no format, the format cannot hold the manifest, or the file cannot be
/// created. Only records have shards and [aliases](Manifest::alias).
pub fn create(path: impl AsRef<Path>, manifest: Manifest) -> Result<CheckpointWriter, RecordError> {
    let path = path.as_ref();
    let format = Format::of_path(path)?;
    if format == Format::Record {
        let record = RecordWriter::create(path, manifest)?;
        return Ok(CheckpointWriter(Box::new(NativeWriter { record, is_state: false })));
    }
    if manifest.max_shard_size.is_some() {
        return Err(FormatError::Shards { path: path.into(), format }.into());
    }
    if let Some(name) = manifest.aliases.keys().next() {
        let name = name.clone();
        return Err(FormatError::Aliases { path: path.into(), format, name }.into());
    }
    let writer = ForeignWriter::create(path, format, manifest);
    Ok(CheckpointWriter(Box::new(writer.map_err(|error| error.in_file(path))?)))
}

/// A checkpoint that is being written, one tensor at a time.
///
/// The path keeps its old content, or none, until [`finish`](Self::finish) returns. A writer that
/// is dropped before leaves nothing behind.
#[must_use = "a checkpoint that is not finished is removed"]
pub struct CheckpointWriter(Box<dyn Sink>);

impl CheckpointWriter {
    /// Writes the next tensor of the manifest.
    ///
    /// # Errors
    /// The tensor is not the next one of the manifest, or the file cannot be written.
    pub fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError> {
        self.0.begin(Next::Tensor(&RecordEntry::of(id, tensor)))?;
        self.0.part(Part::Tensor(tensor))?;
        self.0.end()
    }

    /// Writes the next of the manifest's [later states](Manifest::later_states), after the last tensor.
    ///
    /// # Errors
    /// The state is not the next one of the manifest, or the file cannot be written.
    pub fn write_state(&mut self, id: &str, data: &[u8]) -> Result<(), RecordError> {
        self.0.begin(Next::State { id, len: data.len() as u64 })?;
        self.0.part(Part::Bytes(data))?;
        self.0.end()
    }

    pub(crate) fn sink(&mut self) -> &mut dyn Sink {
        &mut *self.0
    }

    /// Brings the file to the disk and gives it its name.
    ///
    /// # Errors
    /// Tensors of the manifest are missing, or the file cannot be written.
    pub fn finish(self) -> Result<(), RecordError> {
        self.0.finish()
    }
}

/// A record that is being written.
struct NativeWriter {
    record: RecordWriter,
    /// Whether a state was begun, and not a tensor.
    is_state: bool,
}

impl Sink for NativeWriter {
    fn begin(&mut self, next: Next<'_>) -> Result<(), RecordError> {
        self.is_state = matches!(next, Next::State { .. });
        match next {
            Next::Tensor(entry) => self.record.begin(entry),
            Next::State { id, len } => self.record.begin_state(id, len),
        }
    }

    fn part(&mut self, part: Part<'_>) -> Result<(), RecordError> {
        match part {
            Part::Tensor(tensor) => self.record.part(tensor),
            Part::Bytes(bytes) => self.record.state_part(bytes),
        }
    }

    fn end(&mut self) -> Result<(), RecordError> {
        if self.is_state { self.record.end_state() } else { self.record.end() }
    }

    fn finish(self: Box<Self>) -> Result<(), RecordError> {
        self.record.finish()
    }
}

/// A file of another format than the record.
struct ForeignWriter {
    path: PathBuf,
    body: Body,
}

enum Body {
    Gguf(GgufWriter<AtomicFile>),
    Json(JsonWriter<AtomicFile>),
    Safetensors(SafetensorsWriter<AtomicFile>),
}

impl ForeignWriter {
    fn create(path: &Path, format: Format, manifest: Manifest) -> Result<Self, RecordError> {
        let file = AtomicFile::create(path)?;
        let body = match format {
            Format::Gguf => Body::Gguf(GgufWriter::new(file, manifest)?),
            Format::Json => Body::Json(JsonWriter::new(file, manifest)?),
            _ => Body::Safetensors(SafetensorsWriter::new(file, manifest)?),
        };
        Ok(Self { path: path.into(), body })
    }
}

impl Sink for ForeignWriter {
    fn begin(&mut self, next: Next<'_>) -> Result<(), RecordError> {
        let begun = match &mut self.body {
            Body::Gguf(gguf) => gguf.begin(next),
            Body::Json(json) => json.begin(next),
            Body::Safetensors(safetensors) => safetensors.begin(next),
        };
        begun.map_err(|error| error.in_file(&self.path))
    }

    fn part(&mut self, part: Part<'_>) -> Result<(), RecordError> {
        let written = match &mut self.body {
            Body::Gguf(gguf) => gguf.part(part),
            Body::Json(json) => json.part(part),
            Body::Safetensors(safetensors) => safetensors.part(part),
        };
        written.map_err(|error| error.in_file(&self.path))
    }

    fn end(&mut self) -> Result<(), RecordError> {
        let ended = match &mut self.body {
            Body::Gguf(gguf) => gguf.end(),
            Body::Json(json) => json.end(),
            Body::Safetensors(safetensors) => safetensors.end(),
        };
        ended.map_err(|error| error.in_file(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<(), RecordError> {
        let Self { path, body } = *self;
        let finished = match body {
            Body::Gguf(gguf) => gguf.finish(),
            Body::Json(json) => json.finish(),
            Body::Safetensors(safetensors) => safetensors.finish(),
        };
        finished
            .and_then(|file| file.commit().map_err(RecordError::from))
            .map_err(|error| error.in_file(&path))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Seek, SeekFrom, Write};

    use quant::record::{RecordFormatError, RecordState};

    use super::*;
    use crate::safetensors::SafetensorsError;

    /// A disk that is full while `full` is set.
    struct Disk<'a> {
        bytes: Cursor<Vec<u8>>,
        full: &'a core::cell::Cell<bool>,
    }

    impl Write for Disk<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.full.get() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Disk<'_> {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.bytes.seek(to)
        }
    }

    fn manifest(tensor: &Tensor) -> Manifest {
        Manifest::new([RecordEntry::of("w", tensor)])
    }

    #[test]
    fn a_failed_write_cannot_be_finished() {
        let tensor = Tensor::from_values(&[2], vec![1.0, 2.0]).unwrap();
        let full = core::cell::Cell::new(false);
        let disk = || Disk { bytes: Cursor::default(), full: &full };
        macro_rules! check {
            ($writer:expr) => {
                let mut writer = $writer.unwrap();
                let entry = RecordEntry::of("w", &tensor);
                writer.begin(Next::Tensor(&entry)).unwrap();
                full.set(true);
                let written = writer.part(Part::Tensor(&tensor)).and_then(|()| writer.end());
                assert!(matches!(written, Err(RecordError::Io { .. })), "{written:?}");
                full.set(false);
                let again = writer.begin(Next::Tensor(&entry));
                assert!(matches!(again, Err(RecordError::Manifest(_))));
                assert!(matches!(writer.finish(), Err(RecordError::Manifest(_))));
            };
        }
        check!(GgufWriter::new(disk(), manifest(&tensor)));
        check!(JsonWriter::new(disk(), manifest(&tensor)));
        check!(SafetensorsWriter::new(disk(), manifest(&tensor)));
    }

    #[test]
    fn shards_and_other_names_are_refused_where_only_records_have_them() {
        let tensor = Tensor::from_values(&[2], vec![1.0, 2.0]).unwrap();
        let error = |name: &str, manifest| {
            let Err(RecordError::Recorder { source, .. }) = create(name, manifest) else {
                panic!("{name} was created")
            };
            *source.downcast::<FormatError>().unwrap()
        };
        for name in ["w.safetensors", "w.gguf", "w.json"] {
            let shards = error(name, manifest(&tensor).max_shard_size(1 << 20));
            assert!(matches!(shards, FormatError::Shards { .. }), "{shards}");
            let aliases = error(name, manifest(&tensor).alias("v", "w"));
            let of = |found: &FormatError| match found {
                FormatError::Aliases { name, .. } => name.as_str() == "v",
                _ => false,
            };
            assert!(of(&aliases), "{aliases}");
        }
    }

    #[test]
    fn rejects_two_states_of_one_name() {
        let tensor = Tensor::from_values(&[2], vec![1.0, 2.0]).unwrap();
        let state = || RecordState { id: "s".into(), kind: "k".into(), data: vec![1] };
        let twice = || manifest(&tensor).states([state(), state()]);
        let file = Cursor::new(Vec::new());
        let json = JsonWriter::new(file.clone(), twice()).err();
        assert!(
            matches!(
                json,
                Some(RecordError::Format { source: RecordFormatError::DuplicateName { .. }, .. })
            ),
            "{json:?}"
        );
        let safetensors = SafetensorsWriter::new(file, twice()).err().unwrap();
        let RecordError::Recorder { source, .. } = safetensors else { panic!("{safetensors:?}") };
        let error = source.downcast::<SafetensorsError>().unwrap();
        assert!(matches!(*error, SafetensorsError::DuplicateName { .. }), "{error:?}");
    }
}
