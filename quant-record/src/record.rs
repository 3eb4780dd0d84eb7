//! A record, and all that is checked before it is one.

use crate::aliases::Metadata;
use crate::encoding::Version;
use crate::error::{RecordError, SectionKind};
use crate::header::{Header, StateEntry, TensorEntry};
use crate::prelude::Prelude;
use crate::sections::{self, Sections};
use crate::state::State;
use crate::tensor::{Layout, Tensor};

/// A record of version 1 or 2 in borrowed bytes, all of which have been checked.
///
/// It holds references into the bytes and no tensor: tensors are decoded as they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    file: &'a [u8],
    version: Version,
    header: Header<'a>,
    metadata: Metadata<'a>,
}

impl<'a> Record<'a> {
    /// The record that `file` is, from its first byte to its last, at any address.
    ///
    /// Checks the header, names, places and lengths, all checksums and all padding, and then codes,
    /// scales, zero points and minimums. The time is in proportion to the length of the file.
    ///
    /// # Errors
    /// The bytes are no valid record, or one beyond the limits of this reader.
    pub fn new(file: &'a [u8]) -> Result<Self, RecordError<'a>> {
        let Prelude { version, header, end } = Prelude::decode(file)?;
        let header = Header::decode(header)?;
        let metadata = Metadata::new(header, version);
        let record = Self { file, version, header, metadata };
        record.check_names()?;
        record.check_sections(end)?;
        record.check_aliases()?;
        Ok(record)
    }

    /// The version of the format: 1 or 2.
    pub const fn version(&self) -> u32 {
        match self.version {
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }

    /// The keys and values of the user.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.metadata.user()
    }

    /// The tensors in the order of the model; then those with another name, under that.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'a>> + use<'a> {
        let record = *self;
        let aliases = self.metadata.aliases();
        let aliases =
            aliases.filter_map(move |(name, of)| record.stored(of).map(|own| own.named(name)));
        self.header.tensors().filter_map(move |entry| record.decode(entry)).chain(aliases)
    }

    /// The tensor with this name, which may be another name of it.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'a>> {
        let alias = || {
            let (name, of) = self.metadata.aliases().find(|(alias, _)| *alias == name)?;
            Some(self.stored(of)?.named(name))
        };
        self.stored(name).or_else(alias)
    }

    /// The states in the order of the model.
    pub fn states(&self) -> impl Iterator<Item = State<'a>> + use<'a> {
        let file = self.file;
        let state = move |StateEntry { name, kind, section }: StateEntry<'a>| State {
            name,
            kind,
            data: sections::bytes(file, section),
        };
        self.header.states().map(state)
    }

    /// The state with this name.
    pub fn state(&self, name: &str) -> Option<State<'a>> {
        self.states().find(|state| state.name == name)
    }

    /// The tensor that is stored under this name.
    fn stored(&self, name: &str) -> Option<Tensor<'a>> {
        self.decode(self.header.tensors().find(|entry| entry.name == name)?)
    }

    /// The tensor of an entry. There is one for each that has been checked.
    fn decode(&self, entry: TensorEntry<'a>) -> Option<Tensor<'a>> {
        let layout = self.layout(&entry).ok()?;
        Some(layout.over(entry.sections.map(|section| sections::bytes(self.file, section))))
    }

    fn layout(&self, entry: &TensorEntry<'a>) -> Result<Layout<'a>, RecordError<'a>> {
        let TensorEntry { name, extents, encoding, .. } = *entry;
        let stored = encoding.stored(self.version).map_err(|bad| RecordError::Encoding {
            name,
            field: bad.field,
            value: bad.value,
        })?;
        Layout::new(name, extents, stored, self.version)
    }

    fn check_names(&self) -> Result<(), RecordError<'a>> {
        let mut last = None;
        for pair in self.header.metadata() {
            if last.is_some_and(|last| last >= pair.key) {
                return Err(RecordError::MetadataOrder { key: pair.key });
            }
            last = Some(pair.key);
        }
        distinct(self.header.tensors(), |entry| entry.name)?;
        distinct(self.header.states(), |entry| entry.name)
    }

    fn check_sections(&self, header_end: usize) -> Result<(), RecordError<'a>> {
        use SectionKind::{Offsets, Scales, State, Values};
        let mut sections = Sections::new(self.file, header_end);
        for entry in self.header.tensors() {
            let (name, [values, scales, offsets]) = (entry.name, entry.sections);
            let layout = self.layout(&entry)?;
            let lens = layout.section_lens()?.map(Some);
            let tensor = layout.over([
                sections.next((name, Values), values, lens[0])?,
                sections.next((name, Scales), scales, lens[1])?,
                sections.next((name, Offsets), offsets, lens[2])?,
            ]);
            tensor.check()?;
        }
        for entry in self.header.states() {
            sections.next((entry.name, State), entry.section, None)?;
        }
        sections.finish()
    }

    fn check_aliases(&self) -> Result<(), RecordError<'a>> {
        let mut left = self.file.len();
        for (name, of) in self.metadata.aliases() {
            if self.header.tensors().any(|entry| entry.name == name) {
                return Err(RecordError::DuplicateName { name });
            }
            let tensor = self.stored(of).ok_or(RecordError::Alias { name, of })?;
            // The shape is counted, too, as readers that copy it do.
            let copied = tensor.byte_count().saturating_add(8 * tensor.shape().len());
            left = left.checked_sub(copied).ok_or(RecordError::AliasBytes { name })?;
        }
        Ok(())
    }
}

/// Checks that no two entries have the same name. They are at most
/// [`ENTRY_LIMIT`](crate::limits::ENTRY_LIMIT).
fn distinct<'a, E, I: Iterator<Item = E> + Clone>(
    mut entries: I,
    name: impl Fn(&E) -> &'a str,
) -> Result<(), RecordError<'a>> {
    while let Some(entry) = entries.next() {
        let name_of_entry = name(&entry);
        if entries.clone().any(|later| name(&later) == name_of_entry) {
            return Err(RecordError::DuplicateName { name: name_of_entry });
        }
    }
    Ok(())
}
