//! An open checkpoint.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use quant::RecordError;
use quant::Tensor;
use quant::record::{Manifest, RecordState};

use crate::blocks::Blocks;
use crate::entry::{Entry, StateEntry};
use crate::format::Format;
use crate::method::PreQuantized;
use crate::source::{Sorted, Source};

/// An open file of named tensors, in any format; [`open`](crate::open) makes one.
///
/// The file's description of its tensors has been checked; their values have not been read.
pub struct Checkpoint {
    source: Box<dyn Source>,
    /// `None` if the source has no tensors of blocks.
    blocks: Option<Blocks>,
    /// The positions of tensors in the order of their names, once one has been looked for.
    by_name: OnceLock<Vec<usize>>,
}

impl Checkpoint {
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        let blocks = Blocks::of(&source);
        Self { source: Box::new(source), blocks, by_name: OnceLock::new() }
    }

    /// The number of tensors in blocks, which are the last [`entries`](Self::entries).
    pub(crate) fn blocks_len(&self) -> usize {
        self.entries().len() - self.source.entries().len()
    }

    /// Reads bytes of a tensor in blocks; all of them if it has no [grain](Self::grain).
    pub(crate) fn blocks_part(
        &self,
        index: usize,
        bytes: Range<usize>,
    ) -> Result<Vec<u8>, RecordError> {
        let state = self.blocks.as_ref().and_then(|blocks| blocks.state(&*self.source, index));
        self.source.state_part(state.expect("a tensor in blocks"), bytes)
    }

    pub(crate) fn source(&self) -> &dyn Source {
        &*self.source
    }

    #[cfg(feature = "mmap")]
    pub(crate) fn source_mut(&mut self) -> &mut dyn Source {
        &mut *self.source
    }

    pub(crate) fn into_source(self) -> Box<dyn Source> {
        self.source
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.source.format()
    }

    /// The metadata that users have stored in the file, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.source.metadata()
    }

    /// The tensors, in the order of the file; those of [blocks](crate::Stored::Blocks) come last.
    pub fn entries(&self) -> &[Entry] {
        self.blocks.as_ref().map_or(self.source.entries(), |blocks| &blocks.entries)
    }

    /// The position in [`entries`](Self::entries) of the tensor with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        let entries = self.entries();
        let by_name = self.by_name.get_or_init(|| {
            let mut positions: Vec<usize> = (0..entries.len()).collect();
            positions.sort_unstable_by(|&a, &b| entries[a].id.cmp(&entries[b].id));
            positions
        });
        let found = by_name.binary_search_by(|&it| entries[it].id.as_str().cmp(name)).ok()?;
        Some(by_name[found])
    }

    /// The states, in the order of the file. Their bytes are not read, except those of JSON.
    pub fn state_entries(&self) -> Vec<StateEntry> {
        match &self.blocks {
            Some(blocks) => blocks.other_entries(&*self.source),
            None => self.source.state_entries(),
        }
    }

    /// Every file that is read: with an index, its shards, too.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.source.files().into_iter()
    }

    /// Reads the tensor at this position in [`entries`](Self::entries).
    ///
    /// # Errors
    /// The file cannot be read, or it is damaged.
    ///
    /// # Panics
    /// If `index` is out of bounds.
    pub fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.read_into(index, Vec::new())
    }

    pub(crate) fn read_into(
        &self,
        index: usize,
        allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        match &self.blocks {
            Some(blocks) => blocks.read(&*self.source, index, allocation),
            None => self.source.read_into(index, allocation),
        }
    }

    /// The memory that the checkpoint takes, besides its description: that of a file of text, which has
    /// been read whole.
    pub(crate) fn held(&self) -> u64 {
        if self.format() != Format::Json {
            return 0;
        }
        let text = self.files().filter_map(|path| Some(path.metadata().ok()?.len()));
        let values = self.entries().iter().map(|entry| entry.bytes);
        text.chain(values).fold(0, u64::saturating_add)
    }

    /// As [`Source::alias_of`].
    pub(crate) fn alias_of(&self, index: usize) -> Option<usize> {
        if index < self.source.entries().len() { self.source.alias_of(index) } else { None }
    }

    /// As [`Source::grain`].
    pub(crate) fn grain(&self, index: usize) -> Option<usize> {
        match &self.blocks {
            Some(blocks) => blocks.grain(&*self.source, index),
            None => self.source.grain(index),
        }
    }

    /// As [`Source::read_part`], but all of a tensor has its own shape.
    pub(crate) fn read_part(
        &self,
        index: usize,
        elements: Range<usize>,
        allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        if elements == (0..self.entries()[index].element_count()) {
            return self.read_into(index, allocation);
        }
        match &self.blocks {
            Some(blocks) => blocks.read_part(&*self.source, index, elements, allocation),
            None => self.source.read_part(index, elements, allocation),
        }
    }

    /// As [`Source::read_sorted`].
    pub(crate) fn read_sorted(&self, index: usize) -> Result<Option<Sorted>, RecordError> {
        // Those in blocks come after the entries of the source.
        let is_of_source = index < self.source.entries().len();
        if is_of_source { self.source.read_sorted(index) } else { Ok(None) }
    }

    /// Reads the bytes of a tensor and compares them with their checksum. In a format without
    /// checksums, checks that the tensor can be read.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    ///
    /// # Panics
    /// If `index` is out of bounds.
    pub fn verify(&self, index: usize) -> Result<(), RecordError> {
        match &self.blocks {
            Some(blocks) => blocks.verify(&*self.source, index),
            None => self.source.verify(index),
        }
    }

    /// Reads all states: those of modules, and foreign tensors that are not float.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        match &self.blocks {
            Some(blocks) => blocks.other_states(&*self.source),
            None => self.source.states(),
        }
    }

    /// Reads the state at this position in [`state_entries`](Self::state_entries).
    pub(crate) fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        self.source.state(self.state_position(index))
    }

    /// As [`Source::divides_state`].
    pub(crate) fn divides_state(&self, index: usize) -> bool {
        self.source.divides_state(self.state_position(index))
    }

    /// As [`Source::state_part`].
    pub(crate) fn state_part(
        &self,
        index: usize,
        bytes: Range<usize>,
    ) -> Result<Vec<u8>, RecordError> {
        self.source.state_part(self.state_position(index), bytes)
    }

    /// The position in the source of a state.
    fn state_position(&self, index: usize) -> usize {
        self.blocks.as_ref().map_or(index, |blocks| blocks.other(index))
    }

    /// The tensors that another program has quantized, if there are any. They can be read like any
    /// other, unless [refused](PreQuantized::refused).
    pub fn prequantized(&self) -> Option<&PreQuantized> {
        self.source.prequantized()
    }

    /// The manifest of a copy, in which blocks become single precision.
    ///
    /// # Errors
    /// The states cannot be read.
    pub fn manifest(&self) -> Result<Manifest, RecordError> {
        let entries = self.entries().iter().map(Entry::to_record);
        Ok(Manifest::new(entries).metadata(self.metadata().clone()).states(self.states()?))
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("format", &self.format())
            .field("entries", &self.entries())
            .finish_non_exhaustive()
    }
}
