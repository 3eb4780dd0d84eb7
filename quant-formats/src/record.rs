//! Records as checkpoints.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use quant::__private::{SectionPart, grain};
use quant::ParamId;
use quant::RecordError;
use quant::Tensor;
#[cfg(feature = "mmap")]
use quant::record::{MappedRecord, Verify};
use quant::record::{RecordEntry, RecordFile, RecordFormatError, RecordState, SectionKind};

use crate::checksums::{Checksums, Of};
use crate::entry::{Entry, StateEntry};
use crate::format::Format;
use crate::source::Source;

/// A record on disk, in one file or shards.
pub(crate) struct Record {
    path: PathBuf,
    file: RecordFile,
    entries: Vec<Entry>,
    /// Checksums of what is read in parts.
    parts: Checksums,
    #[cfg(feature = "mmap")]
    mapped: Option<MappedRecord>,
}

impl Record {
    pub(crate) fn open(path: &Path) -> Result<Self, RecordError> {
        let file = RecordFile::open(path)?;
        let entry = |(index, entry): (usize, &RecordEntry)| {
            let bytes = file.sections(index).map(|section| section.len).sum();
            Entry::new(entry.id.clone(), entry.shape.clone(), entry.stored.into(), bytes)
        };
        let entries = file.entries().iter().enumerate().map(entry).collect();
        Ok(Self {
            path: path.into(),
            file,
            entries,
            parts: Checksums::default(),
            #[cfg(feature = "mmap")]
            mapped: None,
        })
    }

    /// Compares the checksum of a section, if all of its parts have been read.
    fn check(
        &self,
        id: &ParamId,
        kind: SectionKind,
        stored: u32,
        computed: Option<u32>,
    ) -> Result<(), RecordError> {
        match computed {
            Some(computed) if computed != stored => {
                let error =
                    RecordFormatError::SectionChecksum { id: id.clone(), kind, stored, computed };
                Err(RecordError::from(error).in_file(&self.path))
            }
            _ => Ok(()),
        }
    }
}

impl Source for Record {
    fn format(&self) -> Format {
        Format::Record
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.file.metadata()
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn state_entries(&self) -> Vec<StateEntry> {
        let states = self.file.state_sizes();
        states.map(|(id, kind, bytes)| StateEntry::new(id.clone(), kind.into(), bytes)).collect()
    }

    fn files(&self) -> Vec<&Path> {
        // The index of shards is not among the paths of the record.
        let shards = self.file.paths().filter(|path| *path != self.path);
        std::iter::once(&*self.path).chain(shards).collect()
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        #[cfg(feature = "mmap")]
        if let Some(mapped) = &self.mapped {
            return mapped.tensor(index).map_err(|error| error.in_file(&self.path));
        }
        self.file.read(index)
    }

    #[cfg(feature = "mmap")]
    unsafe fn map(&mut self) -> Result<(), RecordError> {
        // SAFETY: the caller promises that no file is changed.
        self.mapped = Some(unsafe { MappedRecord::open(&self.path, Verify::Lazy) }?);
        Ok(())
    }

    fn alias_of(&self, index: usize) -> Option<usize> {
        self.file.alias_of(index)
    }

    fn grain(&self, index: usize) -> Option<usize> {
        let entry = &self.entries[index];
        entry.scheme().map_or(Some(1), |scheme| grain(&entry.shape, scheme))
    }

    fn read_part(
        &self,
        index: usize,
        elements: Range<usize>,
        _allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        let id = &self.entries[index].id;
        let (part, read) = self.file.read_part(index, elements)?;
        for SectionPart { kind, bytes, crc32 } in read {
            let section = self.file.sections(index).find(|section| section.kind == kind);
            let Some(section) = section else { continue };
            let whole =
                self.parts.add(Of::Tensor(index, section.offset), bytes, crc32, section.len);
            self.check(id, kind, section.crc32, whole)?;
        }
        Ok(part)
    }

    fn divides_state(&self, _index: usize) -> bool {
        true
    }

    fn state_part(&self, index: usize, bytes: Range<usize>) -> Result<Vec<u8>, RecordError> {
        let (id, len, stored) = self.file.state_section(index);
        let bytes = bytes.start as u64..bytes.end as u64;
        let (part, crc) = self.file.state_part(index, bytes.clone())?;
        let whole = self.parts.add(Of::State(index), bytes, crc, len);
        self.check(id, SectionKind::State, stored, whole)?;
        Ok(part)
    }

    fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.file.verify(index)
    }

    fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        self.file.state(index)
    }
}
