//! Reading: the header, then tensors on request.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::Path;

use quant::RecordError;
use quant::Tensor;
use quant::record::{Record, RecordState};
use quant::tensor::FloatType;

use super::carried::{header_entry, header_state};
use super::elements::{read_bytes, read_tensor};
use super::header::{Header, Slot};
use super::metadata::ALIGNMENT;
use super::parts::{self, Part};
use crate::entry::{Entry, StateEntry, Stored};
use crate::format::Format;
use crate::ggml::{Content, kind_of_tensor};
use crate::source::Source;
use crate::tensor_file::TensorFile;

/// An open GGUF file, or several that were one.
///
/// Its entries are floats, and the codes that a scheme describes. What else it has are states: the
/// header, and the tensors of other types.
#[derive(Debug)]
pub(crate) struct GgufFile {
    parts: Vec<Part>,
    /// That of all parts together. The positions of tensors are those in their parts.
    header: Header,
    /// The part of each tensor.
    part_of: Vec<usize>,
    metadata: BTreeMap<String, String>,
    entries: Vec<Entry>,
    /// The tensor of each entry.
    tensors: Vec<usize>,
    /// The tensor of each state after the header.
    others: Vec<usize>,
}

impl GgufFile {
    pub(crate) fn open(path: &Path) -> Result<Self, RecordError> {
        let (parts, header) = parts::open(path)?;
        let counts = parts.iter().map(|part| part.tensors).enumerate();
        let part_of = counts.flat_map(|(part, count)| std::iter::repeat_n(part, count)).collect();
        let (mut entries, mut tensors, mut others) = (vec![], vec![], vec![]);
        for (position, slot) in header.tensors.iter().enumerate() {
            match entry(slot) {
                Some(entry) => {
                    entries.push(entry);
                    tensors.push(position);
                }
                None => others.push(position),
            }
        }
        let metadata = metadata(&header);
        Ok(Self { parts, metadata, entries, tensors, others, part_of, header })
    }

    /// The file that has a tensor.
    fn file_of(&self, slot: usize) -> &TensorFile {
        &self.parts[self.part_of[slot]].file
    }

    /// Reads a tensor with a reader that starts at it.
    fn read_slot<T>(
        &self,
        slot: usize,
        read: impl FnOnce(&mut dyn Read, &Slot) -> Result<T, RecordError>,
    ) -> Result<T, RecordError> {
        let tensor = &self.header.tensors[slot];
        self.file_of(slot).read(tensor.bytes.start, |reader| read(reader, tensor))
    }

    /// These bytes of a tensor of floats as a tensor of this shape, if the file is mapped.
    fn borrowed(
        &self,
        index: usize,
        bytes: Range<u64>,
        shape: &[usize],
    ) -> Option<Result<Tensor, RecordError>> {
        let slot = self.tensors[index];
        let Slot { name, ty, bytes: all, .. } = &self.header.tensors[slot];
        let Content::Floats(ty) = ty.content() else { return None };
        let bytes = all.start + bytes.start..all.start + bytes.end;
        self.file_of(slot).borrowed(name, ty, shape, bytes)
    }

    /// Reads bytes of a tensor as if they were a tensor of this shape.
    fn read_bytes_of<T>(
        &self,
        slot: usize,
        bytes: Range<u64>,
        shape: Vec<usize>,
        read: impl FnOnce(&mut dyn Read, &Slot) -> Result<T, RecordError>,
    ) -> Result<T, RecordError> {
        let Slot { name, ty, bytes: all, .. } = &self.header.tensors[slot];
        let bytes = all.start + bytes.start..all.start + bytes.end;
        let part = Slot { name: name.clone(), ty: *ty, shape, bytes };
        self.file_of(slot).read(part.bytes.start, |reader| read(reader, &part))
    }
}

/// The values of a header that are not arrays, as text.
fn metadata(header: &Header) -> BTreeMap<String, String> {
    // The alignment says nothing about the model, and another file may have another one.
    let pairs = header.pairs.iter().filter(|pair| pair.key != ALIGNMENT);
    pairs.filter_map(|pair| Some((pair.key.clone(), pair.text(&header.bytes)?))).collect()
}

/// The entry of a tensor, unless it is a state.
fn entry(slot: &Slot) -> Option<Entry> {
    let stored = match slot.ty.content() {
        Content::Floats(FloatType::F16) => Stored::F16,
        Content::Floats(FloatType::Bf16) => Stored::Bf16,
        Content::Floats(_) => Stored::F32,
        Content::Codes(scheme) => Stored::Quantized(scheme),
        Content::Blocks | Content::Plain => return None,
    };
    let bytes = slot.bytes.end - slot.bytes.start;
    let entry = Entry::new(slot.name.as_str().into(), slot.shape.clone(), stored, bytes);
    Some(Entry { gguf_type: Some(slot.ty), ..entry })
}

impl Source for GgufFile {
    fn format(&self) -> Format {
        Format::Gguf
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn state_entries(&self) -> Vec<StateEntry> {
        let header = header_entry(&self.header);
        let others = self.others.iter().map(|&slot| {
            let slot = &self.header.tensors[slot];
            let bytes = slot.bytes.end - slot.bytes.start;
            StateEntry::new(slot.name.as_str().into(), kind_of_tensor(slot.ty, &slot.shape), bytes)
        });
        std::iter::once(header).chain(others).collect()
    }

    fn files(&self) -> Vec<&Path> {
        self.parts.iter().map(|part| part.file.path()).collect()
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.read_into(index, Vec::new())
    }

    fn read_into(&self, index: usize, allocation: Vec<f32>) -> Result<Tensor, RecordError> {
        let Slot { bytes, shape, .. } = &self.header.tensors[self.tensors[index]];
        if let Some(made) = self.borrowed(index, 0..bytes.end - bytes.start, shape) {
            return made;
        }
        self.read_slot(self.tensors[index], |reader, slot| {
            read_tensor(reader, slot, true, allocation)
        })
    }

    fn grain(&self, index: usize) -> Option<usize> {
        let slot = &self.header.tensors[self.tensors[index]];
        match slot.ty.content() {
            Content::Floats(_) => Some(1),
            // Codes of a row share bytes.
            _ => slot.shape.last().copied().filter(|&row| row > 0),
        }
    }

    fn read_part(
        &self,
        index: usize,
        elements: Range<usize>,
        allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        let Slot { ty, shape, .. } = &self.header.tensors[self.tensors[index]];
        let count = elements.len();
        let bytes = ty.bytes_of(elements);
        let bytes = bytes.start as u64..bytes.end as u64;
        let part = match (ty.content(), shape.last()) {
            (Content::Floats(_), _) | (_, None | Some(0)) => vec![count],
            (_, Some(&row)) => vec![count / row, row],
        };
        if let Some(made) = self.borrowed(index, bytes.clone(), &part) {
            return made;
        }
        self.read_bytes_of(self.tensors[index], bytes, part, |reader, slot| {
            read_tensor(reader, slot, true, allocation)
        })
    }

    #[cfg(feature = "mmap")]
    unsafe fn map(&mut self) -> Result<(), RecordError> {
        // SAFETY: the caller promises that the files are not changed.
        self.parts.iter_mut().try_for_each(|part| unsafe { part.file.map() })
    }

    fn divides_state(&self, _index: usize) -> bool {
        true
    }

    fn state_part(&self, index: usize, bytes: Range<usize>) -> Result<Vec<u8>, RecordError> {
        let Some(other) = index.checked_sub(1) else {
            return Ok(self.header.bytes[bytes].to_vec());
        };
        let bytes = bytes.start as u64..bytes.end as u64;
        self.read_bytes_of(self.others[other], bytes, vec![], |reader, slot| {
            Ok(read_bytes(reader, slot, true)?)
        })
    }

    fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        let Some(other) = index.checked_sub(1) else {
            return Ok(header_state(&self.header));
        };
        let slot = self.others[other];
        let data = self.read_slot(slot, |reader, slot| Ok(read_bytes(reader, slot, true)?))?;
        let slot = &self.header.tensors[slot];
        Ok(RecordState {
            id: slot.name.as_str().into(),
            kind: kind_of_tensor(slot.ty, &slot.shape),
            data,
        })
    }
}

/// Reads a record from an input of `len` bytes, if that is known. What follows the last tensor is
/// not read.
///
/// Blocks that no scheme describes become floats, because a model has no parameters of other types.
/// The header is left out: a model has no state of that name.
pub(super) fn load(reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError> {
    let reader = &mut BufReader::new(reader);
    let header = Header::read(reader, len)?;
    let mut read: Vec<Option<Loaded>> = header.tensors.iter().map(|_| None).collect();
    let (mut at, data) = (header.bytes.len() as u64, header.data());
    for position in header.by_offset() {
        let slot = &header.tensors[position];
        skip(reader, data + slot.bytes.start - at)?;
        at = data + slot.bytes.end;
        read[position] = Some(Loaded::read(reader, slot, len.is_some())?);
    }
    let mut record = Record::new();
    for (key, value) in metadata(&header) {
        record.insert_metadata(key, value);
    }
    for (slot, loaded) in header.tensors.iter().zip(read.into_iter().flatten()) {
        let (id, kind) = (slot.name.as_str(), kind_of_tensor(slot.ty, &slot.shape));
        match loaded {
            Loaded::Tensor(tensor) => {
                record.insert(id, tensor);
            }
            Loaded::Bytes(data) => {
                record.insert_state(RecordState { id: id.into(), kind, data });
            }
        }
    }
    Ok(record)
}

enum Loaded {
    Tensor(Tensor),
    Bytes(Vec<u8>),
}

impl Loaded {
    fn read(reader: &mut dyn Read, slot: &Slot, known: bool) -> Result<Self, RecordError> {
        match slot.ty.content() {
            Content::Plain => Ok(Self::Bytes(read_bytes(reader, slot, known)?)),
            _ => read_tensor(reader, slot, known, Vec::new()).map(Self::Tensor),
        }
    }
}

fn skip(reader: &mut dyn Read, len: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(len), &mut io::sink())?;
    if skipped < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgufRecorder;
    use quant::Module;

    #[test]
    fn a_file_that_is_truncated_after_it_was_opened_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.gguf");
        let mut record = Record::new();
        record.insert("w", Tensor::from_values(&[4096], vec![1.0; 4096]).unwrap());
        std::fs::write(&path, record.save_bytes(&GgufRecorder::default()).unwrap()).unwrap();
        let file = GgufFile::open(&path).unwrap();
        let opened = std::fs::File::options().write(true).open(&path).unwrap();
        opened.set_len(path.metadata().unwrap().len() - 4096).unwrap();
        let RecordError::Io { path: found, source } = file.read(0).unwrap_err() else { panic!() };
        assert_eq!((found, source.kind()), (Some(path), io::ErrorKind::UnexpectedEof));
        assert!(file.read_part(0, 0..1024, Vec::new()).is_ok(), "what is left");
    }
}
