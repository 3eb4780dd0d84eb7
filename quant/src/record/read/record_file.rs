//! Records on disk, read one tensor at a time.

use alloc::collections::BTreeMap;
use core::ops::Range;
use std::collections::HashMap;
use std::fs;
use std::io::BufReader;
use std::path::Path;

use super::error::ReadError;
use super::open_file::OpenFile;
use super::part::{PartReader, SectionPart, part_of};
use super::source::Source;
use crate::module::ParamId;
use crate::record::collection::Record;
use crate::record::error::RecordError;
use crate::record::format::entry::{RecordEntry, RecordState};
use crate::record::format::error::RecordFormatError;
use crate::record::format::header::{Header, MetadataEntry, StateEntry};
use crate::record::format::section::{RecordSection, Section, SectionKind, tensor_sections};
use crate::record::format::shard_index::{self, ShardFile, ShardIndex};
use crate::record::format::validate::{CheckedTensor, check_distinct, validate};
use crate::record::format::version::RecordVersion;
use crate::tensor::Tensor;

/// An open record whose header has been validated; tensors are read one at a time.
///
/// Several threads can use it at the same time. If another file is renamed to the path, as
/// [`Recorder::save_file`](crate::record::Recorder::save_file) does, the open record remains the old
/// one.
///
/// ```
/// use quant::record::RecordFile;
/// use quant::{BincodeRecorder, Module, Param};
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
    /// One file, or the shards.
    files: Vec<OpenFile>,
    /// The length in bytes of all files and of the index, if there is one.
    len: u64,
    metadata: BTreeMap<String, String>,
    entries: Vec<RecordEntry>,
    /// The locations of `entries`.
    locations: Vec<TensorLocation>,
    states: Vec<StateLocation>,
    /// The positions of names in `entries`.
    positions: HashMap<ParamId, usize>,
    /// The tensors of the last entries, which are other names of them.
    aliases: Vec<usize>,
}

/// Where a tensor is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorLocation {
    /// The version of the file.
    pub(crate) version: RecordVersion,
    /// An index into `RecordFile::files`.
    pub(crate) file: usize,
    pub(crate) sections: [Section; 3],
}

/// A state whose bytes have not been read.
#[derive(Debug)]
struct StateLocation {
    id: ParamId,
    kind: String,
    file: usize,
    section: Section,
}

/// Where a section of a tensor or state is stored.
struct SectionLocation<'a> {
    id: &'a ParamId,
    kind: SectionKind,
    file: usize,
    section: Section,
}

impl RecordFile {
    /// Opens a record, sharded or not. Reads and validates headers and file lengths only.
    ///
    /// # Errors
    /// [`RecordError::Io`], also if the path is not that of a regular file, and
    /// [`RecordError::Format`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordError> {
        let path = path.as_ref();
        Self::open_any(path).map_err(|error| error.in_file(path))
    }

    fn open_any(path: &Path) -> Result<Self, RecordError> {
        // How often a record may be replaced between the reading of its index and of its shards.
        const ATTEMPTS: usize = 100;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let file = OpenFile::open(path)?;
            let Some(bytes) = shard_index::read(file.at(0))? else { return Self::whole(file) };
            let index = ShardIndex::decode(&bytes)?;
            match Self::sharded(&index, path) {
                Ok(record) => return Ok(Self { len: record.len + file.len, ..record }),
                // Shards are removed after their index has been replaced, so there is a new index.
                Err(error) if last.as_ref().is_some_and(|(seen, _)| *seen == bytes) => {
                    return Err(error);
                }
                Err(error) => last = Some((bytes, error)),
            }
        }
        Err(last.map_or(RecordFormatError::IsShardIndex.into(), |(_, error)| error))
    }

    fn whole(file: OpenFile) -> Result<Self, RecordError> {
        let mut record = Self::empty();
        let mut aliases = Vec::new();
        record.push(file, &mut aliases)?;
        record.add_aliases(aliases);
        Ok(record)
    }

    fn sharded(index: &ShardIndex, path: &Path) -> Result<Self, RecordError> {
        // Symbolic links are followed, as in saving: the shards are next to their target.
        let path = fs::canonicalize(path)?;
        let (mut record, mut aliases) = (Self::empty(), Vec::new());
        for shard in &index.shards {
            let path = path.with_file_name(&shard.name);
            let mut add = || record.push_shard(OpenFile::open(&path)?, shard, &mut aliases);
            add().map_err(|error| RecordError::from(error).in_file(&path))?;
        }
        record.add_aliases(aliases);
        check_distinct(record.entries.iter().map(|entry| entry.id.as_str()))?;
        check_distinct(record.states.iter().map(|state| state.id.as_str()))?;
        Ok(record)
    }

    /// Adds the other names of tensors after all tensors.
    fn add_aliases(&mut self, aliases: Vec<(ParamId, usize)>) {
        for (id, of) in aliases {
            self.positions.insert(id.clone(), self.entries.len());
            self.entries.push(RecordEntry { id, ..self.entries[of].clone() });
            self.locations.push(self.locations[of]);
            self.aliases.push(of);
        }
    }

    /// The position of the tensor of which the one at position `index` is another name, if it is.
    #[doc(hidden)]
    pub fn alias_of(&self, index: usize) -> Option<usize> {
        let stored = self.entries.len() - self.aliases.len();
        self.aliases.get(index.checked_sub(stored)?).copied()
    }

    fn empty() -> Self {
        Self {
            files: Vec::new(),
            len: 0,
            metadata: BTreeMap::new(),
            entries: Vec::new(),
            locations: Vec::new(),
            states: Vec::new(),
            positions: HashMap::new(),
            aliases: Vec::new(),
        }
    }

    /// Adds the content of a shard, which must be the file that the index refers to.
    fn push_shard(
        &mut self,
        file: OpenFile,
        shard: &ShardFile,
        aliases: &mut Vec<(ParamId, usize)>,
    ) -> Result<(), ReadError> {
        let found_len = file.len;
        let found_checksum = self.push(file, aliases)?;
        if (found_len, found_checksum) == (shard.len, shard.checksum) {
            return Ok(());
        }
        Err(ReadError::Format(RecordFormatError::WrongShard {
            expected_len: shard.len,
            found_len,
            expected_checksum: shard.checksum,
            found_checksum,
        }))
    }

    /// Adds the content of a file, and its aliases to others; returns the checksum of its header.
    fn push(
        &mut self,
        open: OpenFile,
        aliases: &mut Vec<(ParamId, usize)>,
    ) -> Result<u32, ReadError> {
        let mut reader = BufReader::with_capacity(64 << 10, open.at(0));
        let mut source = Source::new(&mut reader, Some(open.len));
        let (prelude, header) = source.start()?;
        let (start, end) = (prelude.sections_start(), prelude.file_len);
        let checked = validate(prelude.version, Header::decode(&header)?, start, end)?;
        source.padding()?;
        let file = self.files.len();
        for MetadataEntry { key, value } in checked.metadata {
            let (key, value) = (key.into_owned(), value.into_owned());
            if self.metadata.insert(key.clone(), value).is_some() {
                return Err(RecordFormatError::MetadataOrder { key }.into());
            }
        }
        let first = self.entries.len();
        aliases.extend(checked.aliases.into_iter().map(|(id, of)| (id, first + of)));
        for CheckedTensor { entry, sections } in checked.tensors {
            self.positions.insert(entry.id.clone(), self.entries.len());
            self.entries.push(entry);
            self.locations.push(TensorLocation { version: prelude.version, file, sections });
        }
        for StateEntry { name, kind, section } in checked.states {
            let (id, kind) = (ParamId::new(name), kind.into_owned());
            self.states.push(StateLocation { id, kind, file, section });
        }
        self.len += open.len;
        self.files.push(open);
        Ok(prelude.checksum)
    }

    /// The metadata of the user, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Names, shapes and schemes of the tensors, in the order of the file.
    pub fn entries(&self) -> &[RecordEntry] {
        &self.entries
    }

    /// The position in [`entries`](Self::entries) of the tensor with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// The length of the file in bytes, or of the index and all shards.
    pub fn byte_count(&self) -> u64 {
        self.len
    }

    /// The paths of the files of the record: one, or the shards without their index.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| &*file.path)
    }

    /// The sections of the tensor at position `index` of [`entries`](Self::entries): its values, and
    /// those of its scales and zero points that are not empty.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn sections(&self, index: usize) -> impl Iterator<Item = RecordSection> + use<> {
        let of_kind = |(kind, section)| RecordSection::new(kind, section);
        let kinds = tensor_sections(self.entries[index].stored).into_iter();
        let sections = kinds.zip(self.locations[index].sections).map(of_kind);
        sections.filter(|section| section.kind == SectionKind::Values || section.len > 0)
    }

    /// Reads the tensor at position `index` of [`entries`](Self::entries).
    ///
    /// # Errors
    /// [`RecordError::Io`], and [`RecordError::Format`] for a wrong checksum, padding, code, scale or
    /// zero point.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        let TensorLocation { version, file, sections } = self.locations[index];
        let read = |mut source: Source<'_>| source.tensor(version, &self.entries[index], sections);
        read_at(&self.files[file], sections[0], read)
    }

    /// Reads a part of the tensor at position `index`, and what was read of each section. The caller
    /// compares the checksums once all parts have been read. Padding is checked after the last part.
    ///
    /// # Panics
    /// If the tensor cannot be divided there.
    #[doc(hidden)]
    pub fn read_part(
        &self,
        index: usize,
        elements: Range<usize>,
    ) -> Result<(Tensor, Vec<SectionPart>), RecordError> {
        let TensorLocation { version, file, sections } = self.locations[index];
        let file = &self.files[file];
        PartReader { file, version, entry: &self.entries[index], sections, read: Vec::new() }
            .read(elements)
            .map_err(|error| RecordError::from(error).in_file(&file.path))
    }

    /// Reads bytes of the state at this position in [`state_sizes`](Self::state_sizes), with their
    /// checksum, as [`read_part`](Self::read_part).
    #[doc(hidden)]
    pub fn state_part(
        &self,
        index: usize,
        bytes: Range<u64>,
    ) -> Result<(Vec<u8>, u32), RecordError> {
        let StateLocation { file, section, .. } = &self.states[index];
        let is_last = bytes.end == section.len;
        let part = part_of(*section, bytes);
        let read = |mut source: Source<'_>| source.elements(part.len as usize, is_last);
        read_at(&self.files[*file], part, read)
    }

    /// The name of the state at this position in [`state_sizes`](Self::state_sizes), its number of
    /// bytes, and their checksum.
    #[doc(hidden)]
    pub fn state_section(&self, index: usize) -> (&ParamId, u64, u32) {
        let StateLocation { id, section, .. } = &self.states[index];
        (id, section.len, section.crc32)
    }

    /// Reads the whole record into memory, in parallel with the feature `rayon`.
    ///
    /// # Errors
    /// The first error of [`read`](Self::read) and [`states`](Self::states), in the order of the file.
    pub fn read_all(&self) -> Result<Record, RecordError> {
        self.collect(|index| self.read(index))
    }

    /// The record with the tensors that `read` returns for each position.
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
    pub(crate) fn files(&self) -> &[OpenFile] {
        &self.files
    }

    #[cfg(feature = "mmap")]
    pub(crate) fn location(&self, index: usize) -> TensorLocation {
        self.locations[index]
    }

    /// Verifies checksums and padding of the tensor at position `index` of
    /// [`entries`](Self::entries), in constant memory.
    ///
    /// # Errors
    /// [`RecordError::Io`], and [`RecordError::Format`] for the first wrong checksum or padding.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.tensor_sections(index).try_for_each(|section| self.verify_section(&section))
    }

    /// Verifies all checksums and padding, in parallel with the feature `rayon`.
    ///
    /// # Errors
    /// One error for each section that is damaged or cannot be read, in the order of the file.
    pub fn verify_all(&self) -> Result<(), Vec<RecordError>> {
        let sections = self.all_sections();
        let damage = |index: usize| self.verify_section(&sections[index]).err();
        let errors: Vec<_> = each(sections.len(), damage).flatten().collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The name, kind and number of bytes of each state, in the order of the file.
    #[doc(hidden)]
    pub fn state_sizes(&self) -> impl Iterator<Item = (&ParamId, &str, u64)> {
        self.states.iter().map(|state| (&state.id, &*state.kind, state.section.len))
    }

    /// Reads the states of modules, in the order of the file.
    ///
    /// # Errors
    /// [`RecordError::Io`], and [`RecordError::Format`] for a wrong checksum or padding.
    pub fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        (0..self.states.len()).map(|index| self.state(index)).collect()
    }

    /// Reads the state at this position in [`state_sizes`](Self::state_sizes).
    #[doc(hidden)]
    pub fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        let StateLocation { id, kind, file, section } = &self.states[index];
        let read = |mut source: Source<'_>| source.state(id.as_str(), kind, *section);
        read_at(&self.files[*file], *section, read)
    }

    fn verify_section(&self, location: &SectionLocation<'_>) -> Result<(), RecordError> {
        let SectionLocation { id, kind, file, section } = *location;
        let verify = |mut source: Source<'_>| source.verify(id.as_str(), kind, section);
        read_at(&self.files[file], section, verify)
    }

    fn tensor_sections(&self, index: usize) -> impl Iterator<Item = SectionLocation<'_>> {
        let (RecordEntry { id, stored, .. }, TensorLocation { file, sections, .. }) =
            (&self.entries[index], self.locations[index]);
        let sections = tensor_sections(*stored).into_iter().zip(sections);
        sections.map(move |(kind, section)| SectionLocation { id, kind, file, section })
    }

    fn all_sections(&self) -> Vec<SectionLocation<'_>> {
        let stored = self.entries.len() - self.aliases.len();
        let tensors = (0..stored).flat_map(|index| self.tensor_sections(index));
        let states = self.states.iter().map(|StateLocation { id, file, section, .. }| {
            SectionLocation { id, kind: SectionKind::State, file: *file, section: *section }
        });
        tensors.chain(states).collect()
    }
}

/// Reads with `read` from the start of a section.
fn read_at<T>(
    file: &OpenFile,
    section: Section,
    read: impl FnOnce(Source<'_>) -> Result<T, ReadError>,
) -> Result<T, RecordError> {
    let mut reader = file.at(section.offset);
    read(Source::within(&mut reader, section.offset, file.len))
        .map_err(|error| RecordError::from(error).in_file(&file.path))
}

/// Calls `f` with each number below `count` in parallel; the results are in order.
#[cfg(feature = "rayon")]
fn each<T: Send>(count: usize, f: impl Fn(usize) -> T + Sync) -> impl Iterator<Item = T> {
    use rayon::iter::{IntoParallelIterator, ParallelIterator};
    // All results are collected before the first error is taken, so that it does not depend on the
    // timing of threads.
    let made: Vec<_> = (0..count).into_par_iter().map(&f).collect();
    made.into_iter()
}

/// Calls `f` with each number below `count`.
#[cfg(not(feature = "rayon"))]
fn each<T>(count: usize, f: impl Fn(usize) -> T) -> impl Iterator<Item = T> {
    (0..count).map(f)
}
