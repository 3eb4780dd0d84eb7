//! A record on disk, read one tensor at a time.

use alloc::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::io::BufReader;
use std::path::Path;

use super::open_file::Open;
use super::source::Source;
use crate::module::ParamId;
use crate::record::collection::Record;
use crate::record::error::RecordError;
use crate::record::format::entry::RecordEntry;
use crate::record::format::entry::State;
use crate::record::format::header::{Header, MetadataEntry, StateEntry};
use crate::record::format::section::Part;
use crate::record::format::section::RecordSection;
use crate::record::format::section::{Section, TENSOR_PARTS};
use crate::record::format::shard_index::{self, Index, PartFile};
use crate::record::format::validate::{CheckedTensor, distinct, validate};
use crate::tensor::Tensor;

/// A record on disk, opened: its header is checked, payloads are read one tensor at a time.
///
/// It can be used from several threads at once. The file may be replaced in the meantime, by
/// [`Recorder::save_file`](crate::record::Recorder::save_file) or another rename: what is open is the old
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
    /// One, or the parts.
    files: Vec<Open>,
    /// Of the record, and of its index if it has one.
    len: u64,
    metadata: BTreeMap<String, String>,
    entries: Vec<RecordEntry>,
    /// Those of the entries.
    places: Vec<TensorPlace>,
    states: Vec<StatePlace>,
    /// Where in `entries` a name is.
    positions: HashMap<ParamId, usize>,
}

/// Where a tensor is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorPlace {
    /// Which of the files.
    pub(crate) file: usize,
    pub(crate) sections: [Section; 3],
}

/// A state whose bytes have not been read.
#[derive(Debug)]
struct StatePlace {
    id: ParamId,
    kind: String,
    file: usize,
    section: Section,
}

/// A section, and what it belongs to.
struct SectionPlace<'a> {
    id: &'a ParamId,
    part: Part,
    file: usize,
    section: Section,
}

impl RecordFile {
    /// Opens a record, which may be in parts. Headers and lengths are checked; no payload is
    /// read.
    ///
    /// # Errors
    /// The system's, with the path, or a file that is no record.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordError> {
        let path = path.as_ref();
        Self::open_any(path).map_err(|error| error.in_file(path))
    }

    fn open_any(path: &Path) -> Result<Self, RecordError> {
        // How often a record may be replaced between the reading of its index and of its parts.
        const ATTEMPTS: usize = 100;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let file = Open::new(path)?;
            let Some(bytes) = shard_index::read(file.at(0))? else { return Self::whole(file) };
            let parts = Index::decode(&bytes)?;
            match Self::in_parts(&parts, path) {
                Ok(record) => return Ok(Self { len: record.len + file.len, ..record }),
                // Parts are removed after their index has been replaced: there is a new one now.
                Err(error) if last.as_ref().is_some_and(|(seen, _)| *seen == bytes) => {
                    return Err(error);
                }
                Err(error) => last = Some((bytes, error)),
            }
        }
        Err(last.map_or(RecordError::IsIndex, |(_, error)| error))
    }

    fn whole(file: Open) -> Result<Self, RecordError> {
        let mut record = Self::empty();
        record.push(file)?;
        Ok(record)
    }

    fn in_parts(index: &Index, path: &Path) -> Result<Self, RecordError> {
        // A link is followed, as when it is saved: the parts are beside the file it leads to.
        let path = fs::canonicalize(path)?;
        let mut record = Self::empty();
        for part in &index.parts {
            let path = path.with_file_name(&part.name);
            let add = |record: &mut Self| record.push_part(Open::new(&path)?, part);
            add(&mut record).map_err(|error| error.in_part(&path))?;
        }
        distinct(record.entries.iter().map(|entry| entry.id.as_str()))?;
        distinct(record.states.iter().map(|state| state.id.as_str()))?;
        Ok(record)
    }

    fn empty() -> Self {
        Self {
            files: Vec::new(),
            len: 0,
            metadata: BTreeMap::new(),
            entries: Vec::new(),
            places: Vec::new(),
            states: Vec::new(),
            positions: HashMap::new(),
        }
    }

    /// Adds what a part holds, if it is the one that the index names.
    fn push_part(&mut self, file: Open, part: &PartFile) -> Result<(), RecordError> {
        let (path, found_len) = (file.path.clone(), file.len);
        let found_checksum = self.push(file)?;
        if (found_len, found_checksum) == (part.len, part.checksum) {
            return Ok(());
        }
        Err(RecordError::ForeignPart {
            file: path,
            expected_len: part.len,
            found_len,
            expected_checksum: part.checksum,
            found_checksum,
        })
    }

    /// Adds what a file holds; returns the checksum of its header.
    fn push(&mut self, open: Open) -> Result<u32, RecordError> {
        let mut reader = BufReader::with_capacity(64 << 10, open.at(0));
        let mut source = Source::new(&mut reader, Some(open.len));
        let (prelude, header) = source.start()?;
        let (start, end) = (prelude.sections_start(), prelude.file_len);
        let checked = validate(Header::decode(&header)?, start, end)?;
        source.padding()?;
        let file = self.files.len();
        for MetadataEntry { key, value } in checked.metadata {
            let (key, value) = (key.into_owned(), value.into_owned());
            if self.metadata.insert(key.clone(), value).is_some() {
                return Err(RecordError::MetadataOrder { key });
            }
        }
        for CheckedTensor { entry, sections } in checked.tensors {
            self.positions.insert(entry.id.clone(), self.entries.len());
            self.entries.push(entry);
            self.places.push(TensorPlace { file, sections });
        }
        for StateEntry { name, kind, section } in checked.states {
            let (id, kind) = (ParamId::new(name), kind.into_owned());
            self.states.push(StatePlace { id, kind, file, section });
        }
        self.len += open.len;
        self.files.push(open);
        Ok(prelude.checksum)
    }

    /// The user's own pairs, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What the record says about its tensors, in the order of the file.
    pub fn entries(&self) -> &[RecordEntry] {
        &self.entries
    }

    /// Where in [`entries`](Self::entries) the tensor of this name is.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// The length of the file in bytes, or of the index and all parts.
    pub fn byte_count(&self) -> u64 {
        self.len
    }

    /// The files of the record: one, or its parts without their index.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| &*file.path)
    }

    /// The sections of the tensor at `index` of [`entries`](Self::entries), with their checksums.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn sections(&self, index: usize) -> impl Iterator<Item = RecordSection> + use<> {
        let of_part = |(part, section)| RecordSection::new(part, section);
        let sections = TENSOR_PARTS.into_iter().zip(self.places[index].sections).map(of_part);
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
        let TensorPlace { file, sections } = self.places[index];
        let read = |mut source: Source<'_>| source.tensor(&self.entries[index], sections);
        self.files[file].read(sections[0], read)
    }

    /// Reads the whole record, with all of its tensors; several at a time by the threads of
    /// `rayon` if that feature is on.
    ///
    /// # Errors
    /// The first of those that [`read`](Self::read) and [`states`](Self::states) have.
    pub fn read_all(&self) -> Result<Record, RecordError> {
        self.collect(|index| self.read(index))
    }

    /// The record of the tensors that `read` gives.
    pub(crate) fn collect(
        &self,
        read: impl Fn(usize) -> Result<Tensor, RecordError> + Sync,
    ) -> Result<Record, RecordError> {
        let mut record = Record::new();
        for (key, value) in &self.metadata {
            record.insert_metadata(key, value);
        }
        let tensors = each(self.entries.len(), read).collect::<Result<Vec<_>, _>>()?;
        record.extend(self.entries.iter().map(|entry| entry.id.clone()).zip(tensors));
        for state in self.states()? {
            record.insert_state(state);
        }
        Ok(record)
    }

    #[cfg(feature = "mmap")]
    pub(crate) fn files(&self) -> &[Open] {
        &self.files
    }

    #[cfg(feature = "mmap")]
    pub(crate) fn place(&self, index: usize) -> TensorPlace {
        self.places[index]
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
        self.tensor_sections(index).try_for_each(|place| self.verify_section(&place))
    }

    /// Compares all checksums with the bytes, by the threads of `rayon` if that feature is on.
    ///
    /// # Errors
    /// One error for each section that is damaged or cannot be read, in the order of the file.
    pub fn verify_all(&self) -> Result<(), Vec<RecordError>> {
        let sections = self.all_sections();
        let damage = |index: usize| self.verify_section(&sections[index]).err();
        let errors: Vec<_> = each(sections.len(), damage).flatten().collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Reads the states of modules, in order.
    ///
    /// # Errors
    /// The system's, with the path; a checksum or padding that is not right.
    pub fn states(&self) -> Result<Vec<State>, RecordError> {
        let read = |StatePlace { id, kind, file, section }: &StatePlace| {
            let read = |mut source: Source<'_>| source.state(id.as_str(), kind, *section);
            self.files[*file].read(*section, read)
        };
        self.states.iter().map(read).collect()
    }

    fn verify_section(&self, place: &SectionPlace<'_>) -> Result<(), RecordError> {
        let SectionPlace { id, part, file, section } = *place;
        let verify = |mut source: Source<'_>| source.verify(id.as_str(), part, section);
        self.files[file].read(section, verify)
    }

    fn tensor_sections(&self, index: usize) -> impl Iterator<Item = SectionPlace<'_>> {
        let (id, TensorPlace { file, sections }) = (&self.entries[index].id, self.places[index]);
        let parts = TENSOR_PARTS.into_iter().zip(sections);
        parts.map(move |(part, section)| SectionPlace { id, part, file, section })
    }

    fn all_sections(&self) -> Vec<SectionPlace<'_>> {
        let tensors = (0..self.entries.len()).flat_map(|index| self.tensor_sections(index));
        let states = self.states.iter().map(|StatePlace { id, file, section, .. }| SectionPlace {
            id,
            part: Part::State,
            file: *file,
            section: *section,
        });
        tensors.chain(states).collect()
    }
}

/// What `f` makes of each number below `count`, in order, by the threads of `rayon`.
#[cfg(feature = "rayon")]
fn each<T: Send>(count: usize, f: impl Fn(usize) -> T + Sync) -> impl Iterator<Item = T> {
    use rayon::iter::{IntoParallelIterator, ParallelIterator};
    // Collected before anybody looks for errors: which one comes first is no matter of threads.
    let made: Vec<_> = (0..count).into_par_iter().map(&f).collect();
    made.into_iter()
}

/// What `f` makes of each number below `count`, in order, when it is asked for.
#[cfg(not(feature = "rayon"))]
fn each<T>(count: usize, f: impl Fn(usize) -> T) -> impl Iterator<Item = T> {
    (0..count).map(f)
}
