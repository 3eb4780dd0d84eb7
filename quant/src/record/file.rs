//! A record on disk, read one tensor at a time.

use alloc::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::header::{Header, Section, TENSOR_PARTS};
use super::reader::Source;
use super::validate::validate;
use super::{Part, RecordEntry, RecordError, RecordSection, State};
use crate::module::ParamId;
use crate::tensor::Tensor;

/// A record on disk, opened: its header is checked, payloads are read one tensor at a time.
///
/// It can be used from several threads at once. The file may be replaced in the meantime, by
/// [`Recorder::save_file`](super::Recorder::save_file) or another rename: what is open is the old
/// one, to the end.
///
/// ```
/// use quant::{BincodeRecorder, Module, Param, RecordFile};
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-file-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("model.quant");
/// let model = vec![Param::new([1.0f32, 2.0]), Param::new([3.0, 4.0])];
/// model.save_file(&path, &BincodeRecorder::default())?;
///
/// let file = RecordFile::open(&path)?;
/// assert_eq!(file.entries()[1].shape, [2]);
/// let second = file.position("1").unwrap();
/// assert_eq!(*file.read(second)?.values(), [3.0, 4.0]);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RecordFile {
    file: RecordOnDisk,
    index: HashMap<ParamId, usize>,
}

/// One file that is a record.
#[derive(Debug)]
struct RecordOnDisk {
    file: File,
    path: PathBuf,
    len: u64,
    metadata: BTreeMap<String, String>,
    entries: Vec<RecordEntry>,
    /// Those of the entries.
    sections: Vec<[Section; 3]>,
    states: Vec<StatePlace>,
}

/// A state whose bytes have not been read.
#[derive(Debug)]
struct StatePlace {
    id: ParamId,
    kind: String,
    section: Section,
}

impl RecordFile {
    /// Opens a record. Its header and its length are checked; no payload is read.
    ///
    /// # Errors
    /// The system's, with the path, or a file that is no record.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordError> {
        let path = path.as_ref();
        let file = RecordOnDisk::open(path).map_err(|error| error.in_file(path))?;
        let ids = file.entries.iter().map(|entry| entry.id.clone());
        let index = ids.enumerate().map(|(position, id)| (id, position)).collect();
        Ok(Self { file, index })
    }

    /// The user's own pairs, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.file.metadata
    }

    /// What the record says about its tensors, in the order of the file.
    pub fn entries(&self) -> &[RecordEntry] {
        &self.file.entries
    }

    /// Where in [`entries`](Self::entries) the tensor of this name is.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The length of the record in bytes.
    pub fn byte_count(&self) -> u64 {
        self.file.len
    }

    /// The sections of the tensor at `index` of [`entries`](Self::entries), with their checksums.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn sections(&self, index: usize) -> impl Iterator<Item = RecordSection> + use<> {
        let of_part = |(part, section)| RecordSection::new(part, section);
        let sections = TENSOR_PARTS.into_iter().zip(self.file.sections[index]).map(of_part);
        sections.filter(|section| section.part == Part::Values || section.len > 0)
    }

    /// Reads the tensor at `index` of [`entries`](Self::entries).
    ///
    /// # Errors
    /// The system's, with the path; a checksum, padding or code that is not right.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.file.read(index)
    }

    /// Compares the checksums of the tensor at `index` of [`entries`](Self::entries) with its
    /// bytes, of which nothing is kept.
    ///
    /// # Errors
    /// The system's, with the path; the first checksum or padding that is not right.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.file.tensor_sections(index).try_for_each(|place| self.file.verify(place))
    }

    /// Compares all checksums with the bytes, by the threads of `rayon` if that feature is on.
    ///
    /// # Errors
    /// One error for each section that is damaged or cannot be read, in the order of the file.
    pub fn verify_all(&self) -> Result<(), Vec<RecordError>> {
        let errors = self.file.verify_all();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Reads the states of modules, in order.
    ///
    /// # Errors
    /// The system's, with the path; a checksum or padding that is not right.
    pub fn states(&self) -> Result<Vec<State>, RecordError> {
        self.file.states()
    }
}

/// A section, and what it belongs to.
type Place<'a> = (&'a ParamId, Part, Section);

impl RecordOnDisk {
    fn open(path: &Path) -> Result<Self, RecordError> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file").into());
        }
        let mut reader = BufReader::with_capacity(64 << 10, At { file: &file, at: 0 });
        let mut source = Source::new(&mut reader, Some(metadata.len()));
        let (prelude, header) = source.start()?;
        let (start, len) = (prelude.sections_start(), prelude.file_len);
        let checked = validate(Header::decode(&header)?, start, len)?;
        source.padding()?;
        let pair = |pair: super::header::MetadataEntry<'_>| {
            (pair.key.into_owned(), pair.value.into_owned())
        };
        let metadata = checked.metadata.into_iter().map(pair).collect();
        let place = |state: super::header::StateEntry<'_>| StatePlace {
            id: ParamId::new(state.name),
            kind: state.kind.into_owned(),
            section: state.section,
        };
        let states = checked.states.into_iter().map(place).collect();
        let tensors = checked.tensors.into_iter();
        let (entries, sections) = tensors.map(|tensor| (tensor.entry, tensor.sections)).unzip();
        Ok(Self { path: path.into(), file, len, metadata, entries, sections, states })
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        let (entry, sections) = (&self.entries[index], self.sections[index]);
        self.at(sections[0], |mut source| source.tensor(entry, sections))
    }

    fn states(&self) -> Result<Vec<State>, RecordError> {
        let read = |StatePlace { id, kind, section }: &StatePlace| {
            self.at(*section, |mut source| source.state(id.as_str(), kind, *section))
        };
        self.states.iter().map(read).collect()
    }

    /// Reads from the start of a section.
    fn at<T>(
        &self,
        section: Section,
        read: impl FnOnce(Source<'_>) -> Result<T, RecordError>,
    ) -> Result<T, RecordError> {
        let mut reader = At { file: &self.file, at: section.offset };
        read(Source::within(&mut reader, section.offset, self.len))
            .map_err(|error| error.in_file(&self.path))
    }

    fn verify(&self, (id, part, section): Place<'_>) -> Result<(), RecordError> {
        self.at(section, |mut source| source.verify(id.as_str(), part, section))
    }

    fn tensor_sections(&self, index: usize) -> impl Iterator<Item = Place<'_>> {
        let id = &self.entries[index].id;
        let parts = TENSOR_PARTS.into_iter().zip(self.sections[index]);
        parts.map(move |(part, section)| (id, part, section))
    }

    fn places(&self) -> Vec<Place<'_>> {
        let tensors = (0..self.entries.len()).flat_map(|index| self.tensor_sections(index));
        let states = self.states.iter().map(|state| (&state.id, Part::State, state.section));
        tensors.chain(states).collect()
    }

    #[cfg(not(feature = "rayon"))]
    fn verify_all(&self) -> Vec<RecordError> {
        self.places().into_iter().filter_map(|place| self.verify(place).err()).collect()
    }

    #[cfg(feature = "rayon")]
    fn verify_all(&self) -> Vec<RecordError> {
        use rayon::iter::{IntoParallelIterator, ParallelIterator};
        self.places().into_par_iter().filter_map(|place| self.verify(place).err()).collect()
    }
}

/// Reads a file from a place on, whatever others read from it.
pub(crate) struct At<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> At<'a> {
    pub(crate) fn new(file: &'a File, at: u64) -> Self {
        Self { file, at }
    }
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = read_at(self.file, buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

/// No other system is known to read at a place without moving the file's own.
#[cfg(not(any(unix, windows)))]
fn read_at(_file: &File, _buffer: &mut [u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
