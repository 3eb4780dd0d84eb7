//! From paths to checkpoints.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use quant::__private::is_record;
use quant::record::{AtomicFile, RecordError, RecordFile, RecordWriter};
use quant::tensor::Tensor;

use super::json::{self, JsonWriter};
use super::memory::InMemory;
use super::native::Native;
use super::safetensors::{Parts, SafetensorsFile, SafetensorsWriter};
use super::{Checkpoint, CheckpointWriter, Format, FormatError, Manifest};

/// Opens a checkpoint, whose format shows in its first bytes.
///
/// # Errors
/// The system's, with the path; [`FormatError`] within [`RecordError::Recorder`]; or a file that is
/// not what its first bytes promise.
pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn Checkpoint>, RecordError> {
    let path = path.as_ref();
    let start = start(path).map_err(|error| RecordError::from(error).in_file(path))?;
    if is_record(&start) {
        return Ok(Box::new(Native::new(RecordFile::open(path)?)));
    }
    open_foreign(path, &start)
}

/// The first bytes of a file.
fn start(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(4096).read_to_end(&mut start)?;
    Ok(start)
}

/// Begins a checkpoint in the format that the path's extension names.
///
/// # Errors
/// An extension of no format; a manifest that the format cannot hold; the system's, with the path.
pub fn create(
    path: impl AsRef<Path>,
    manifest: Manifest,
) -> Result<Box<dyn CheckpointWriter>, RecordError> {
    let path = path.as_ref();
    match Format::of_path(path)? {
        Format::Record => Ok(Box::new(RecordWriter::create(path, manifest)?)),
        format if manifest.max_shard_size.is_some() => {
            Err(FormatError::Parts { path: path.into(), format }.into())
        }
        foreign => create_foreign(path, foreign, manifest),
    }
}

fn open_foreign(path: &Path, start: &[u8]) -> Result<Box<dyn Checkpoint>, RecordError> {
    if start.get(8) == Some(&b'{') {
        return Ok(Box::new(SafetensorsFile::open(path)?));
    }
    if start.trim_ascii_start().first() != Some(&b'{') {
        return Err(FormatError::Content { path: path.into() }.into());
    }
    let text = std::fs::read(path).map_err(|error| RecordError::from(error).in_file(path))?;
    if Parts::is_index(&text) {
        return Ok(Box::new(Parts::open(path, &text)?));
    }
    Ok(Box::new(InMemory::new(Format::Json, json::parse(&text)?)))
}

fn create_foreign(
    path: &Path,
    format: Format,
    manifest: Manifest,
) -> Result<Box<dyn CheckpointWriter>, RecordError> {
    let begin = || {
        let file = AtomicFile::create(path)?;
        let body = match format {
            Format::Json => Body::Json(JsonWriter::new(file, manifest)?),
            _ => Body::Safetensors(SafetensorsWriter::new(file, manifest)?),
        };
        Ok(Foreign { path: path.into(), body })
    };
    let begun = begin().map_err(|error: RecordError| error.in_file(path))?;
    Ok(Box::new(begun))
}

/// A file of a foreign format that is being written.
struct Foreign {
    path: PathBuf,
    body: Body,
}

enum Body {
    Json(JsonWriter<AtomicFile>),
    Safetensors(SafetensorsWriter<AtomicFile>),
}

impl CheckpointWriter for Foreign {
    fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError> {
        let written = match &mut self.body {
            Body::Json(json) => json.write(id, tensor),
            Body::Safetensors(safetensors) => safetensors.write(id, tensor),
        };
        written.map_err(|error| error.in_file(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<(), RecordError> {
        let Self { path, body } = *self;
        let finished = match body {
            Body::Json(json) => json.finish(),
            Body::Safetensors(safetensors) => safetensors.finish(),
        };
        finished.and_then(|file| Ok(file.commit()?)).map_err(|error| error.in_file(&path))
    }
}
#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Seek, SeekFrom, Write};

    use super::Manifest;
    use crate::json::JsonWriter;
    use crate::safetensors::SafetensorsWriter;
    use quant::record::{RecordEntry, RecordError, RecordFormatError, RecordState};
    use quant::tensor::Tensor;

    /// A disk that is full for a while.
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
    fn a_file_with_a_tensor_that_could_not_be_written_is_not_finished() {
        let tensor = Tensor::from_values(&[2], vec![1.0, 2.0]).unwrap();
        let full = core::cell::Cell::new(false);
        let disk = || Disk { bytes: Cursor::default(), full: &full };
        macro_rules! check {
            ($writer:expr) => {
                let mut writer = $writer.unwrap();
                full.set(true);
                assert!(matches!(writer.write("w", &tensor), Err(RecordError::Io { .. })));
                full.set(false);
                let again = writer.write("w", &tensor);
                assert!(matches!(again, Err(RecordError::Manifest(_))));
                assert!(matches!(writer.finish(), Err(RecordError::Manifest(_))));
            };
        }
        check!(JsonWriter::new(disk(), manifest(&tensor)));
        check!(SafetensorsWriter::new(disk(), manifest(&tensor)));
    }

    #[test]
    fn two_states_of_one_name_are_refused() {
        let tensor = Tensor::from_values(&[2], vec![1.0, 2.0]).unwrap();
        let state = || RecordState { id: "s".into(), kind: "k".into(), data: vec![1] };
        let twice = || manifest(&tensor).with_states([state(), state()]);
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
        assert!(source.to_string().contains("the name is there twice"));
    }
}
