//! Reading: the header, then tensors on request.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::mem;
use std::ops::Range;
use std::path::Path;

use quant::__private::{grain, part_shape};
use quant::RecordError;
use quant::Tensor;
use quant::record::{Record, RecordFormatError, RecordState, Stored};
use quant::tensor::{QuantizedTensor, TensorError};

use super::catalog::{Catalog, Location, Place, StateSource};
use super::dtype::Dtype;
use super::elements::Elements;
use super::error::SafetensorsError;
use super::header::{self, Header, LEN_BYTES};
use super::names::Components;
use crate::entry::{Entry, StateEntry};
use crate::format::Format;
use crate::source::Source;
use crate::tensor_file::TensorFile;

/// An open safetensors file.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    file: TensorFile,
    catalog: Catalog,
}

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self, RecordError> {
        let (file, catalog) = TensorFile::open(path, |reader, len| {
            let (header, data) = read_header(reader, Some(len))?;
            Ok((Catalog::new(header)?, data))
        })?;
        Ok(Self { file, catalog })
    }

    /// The names of tensors that are not entries: components of quantized ones, and states.
    pub(super) fn other_names(&self) -> impl Iterator<Item = &str> {
        self.catalog.others.iter().map(String::as_str)
    }

    fn elements(&self, slot: usize, allocation: Vec<f32>) -> Result<Elements, RecordError> {
        let bytes = &self.catalog.places[slot].bytes;
        self.part_of(slot, 0..bytes.end - bytes.start, allocation)
    }

    /// These bytes of a float tensor as a tensor of this shape, if the file is mapped.
    fn borrowed(
        &self,
        index: usize,
        bytes: Range<u64>,
        shape: &[usize],
    ) -> Option<Result<Tensor, RecordError>> {
        let Location::Float(slot) = self.catalog.locations[index] else { return None };
        let entry = &self.catalog.entries[index];
        let Stored::Float(ty) = entry.stored.in_record() else { return None };
        let start = self.catalog.places[slot].bytes.start;
        let bytes = start + bytes.start..start + bytes.end;
        self.file.borrowed(entry.id.as_str(), ty, shape, bytes)
    }

    /// Reads these bytes of a tensor.
    fn part_of(
        &self,
        slot: usize,
        bytes: Range<u64>,
        allocation: Vec<f32>,
    ) -> Result<Elements, RecordError> {
        let slot = &self.catalog.places[slot];
        let len = bytes.end - bytes.start;
        self.file.read(slot.bytes.start + bytes.start, |reader| {
            Ok(Elements::read(reader, slot.dtype, len, true, allocation)?)
        })
    }
}

impl Source for SafetensorsFile {
    fn format(&self) -> Format {
        Format::Safetensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.catalog.metadata
    }

    fn entries(&self) -> &[Entry] {
        &self.catalog.entries
    }

    fn state_entries(&self) -> Vec<StateEntry> {
        let states = self.catalog.states.iter().map(|state| {
            let bytes = &self.catalog.places[state.slot].bytes;
            StateEntry::new(state.id.clone(), state.kind.clone(), bytes.end - bytes.start)
        });
        states.collect()
    }

    fn files(&self) -> Vec<&Path> {
        vec![self.file.path()]
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.read_into(index, Vec::new())
    }

    fn read_into(&self, index: usize, mut allocation: Vec<f32>) -> Result<Tensor, RecordError> {
        let (entry, location) = (&self.catalog.entries[index], self.catalog.locations[index]);
        if let Some(made) = self.borrowed(index, 0..entry.bytes, &entry.shape) {
            return made;
        }
        assemble(entry, location, |slot| self.elements(slot, mem::take(&mut allocation)))
    }

    fn grain(&self, index: usize) -> Option<usize> {
        match self.catalog.locations[index] {
            Location::Float(_) => Some(1),
            Location::Quantized { scheme, .. } => grain(&self.catalog.entries[index].shape, scheme),
        }
    }

    fn read_part(
        &self,
        index: usize,
        elements: Range<usize>,
        allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        let (entry, location) = (&self.catalog.entries[index], self.catalog.locations[index]);
        let part =
            Entry { shape: part_of(location, &entry.shape, elements.len()), ..entry.clone() };
        let before = part_of(location, &entry.shape, elements.start);
        let [starts, lens] = [&before, &part.shape].map(|shape| bytes_of(entry, location, shape));
        let (starts, lens) = (starts?, lens?);
        if let Some(made) = self.borrowed(index, starts[0]..starts[0] + lens[0], &part.shape) {
            return made;
        }
        let (mut allocation, mut next) = (allocation, 0);
        assemble(&part, location, |slot| {
            let bytes = starts[next]..starts[next] + lens[next];
            next += 1;
            self.part_of(slot, bytes, mem::take(&mut allocation))
        })
    }

    #[cfg(feature = "mmap")]
    unsafe fn map(&mut self) -> Result<(), RecordError> {
        // SAFETY: the caller promises that the file is not changed.
        unsafe { self.file.map() }
    }

    fn divides_state(&self, _index: usize) -> bool {
        true
    }

    fn state_part(&self, index: usize, bytes: Range<usize>) -> Result<Vec<u8>, RecordError> {
        let slot = self.catalog.states[index].slot;
        let part = self.part_of(slot, bytes.start as u64..bytes.end as u64, Vec::new())?;
        Ok(part.into_bytes())
    }

    fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        let StateSource { id, kind, slot } = &self.catalog.states[index];
        let data = self.elements(*slot, Vec::new())?.into_bytes();
        Ok(RecordState { id: id.clone(), kind: kind.clone(), data })
    }
}

/// The shape of a part of a tensor.
fn part_of(location: Location, shape: &[usize], count: usize) -> Vec<usize> {
    match location {
        Location::Float(_) => vec![count],
        Location::Quantized { scheme, .. } => {
            part_shape(shape, scheme, count).expect("a tensor without a grain is not divided")
        }
    }
}

/// The bytes of a tensor of this shape: of its values, scales, and zero points or minimums.
fn bytes_of(entry: &Entry, location: Location, shape: &[usize]) -> Result<[u64; 3], RecordError> {
    let bytes = |dtype: Dtype, shape: &[usize]| dtype.byte_count(shape).unwrap_or(0);
    let Location::Quantized { scheme, .. } = location else {
        let dtype = Dtype::of_float(entry.stored.in_record());
        return Ok([bytes(dtype, shape), 0, 0]);
    };
    let Components { codes, scales, offsets } = Components::of(shape, scheme).map_err(|error| {
        RecordFormatError::Tensor { id: entry.id.clone(), source: TensorError::from(error) }
    })?;
    let offsets = offsets.map_or(0, |(_, dtype, shape)| bytes(dtype, &shape));
    Ok([bytes(codes.0, &codes.1), bytes(scales.0, &scales.1), offsets])
}

/// Reads a record from an input of `len` bytes, if that is known, to its end.
pub(super) fn load(reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError> {
    let (header, _) = read_header(reader, len)?;
    let (order, expected) = (header.by_offset(), header.data_len());
    let catalog = Catalog::new(header)?;
    let mut read = HashMap::new();
    for slot in order {
        let Place { dtype, bytes } = &catalog.places[slot];
        let bytes = bytes.end - bytes.start;
        let elements = Elements::read(reader, *dtype, bytes, len.is_some(), Vec::new())?;
        read.insert(slot, elements);
    }
    if reader.read(&mut [0])? > 0 {
        return Err(SafetensorsError::FileLen { found: expected + 1, expected }.into());
    }
    let mut take = |slot| Ok(read.remove(&slot).expect("a tensor belongs to one entry"));
    let mut record = Record::new();
    for (key, value) in catalog.metadata {
        record.insert_metadata(key, value);
    }
    for (entry, location) in catalog.entries.iter().zip(catalog.locations) {
        record.insert(entry.id.clone(), assemble(entry, location, &mut take)?);
    }
    for state in catalog.states {
        let data = take(state.slot)?.into_bytes();
        record.insert_state(RecordState { id: state.id, kind: state.kind, data });
    }
    Ok(record)
}

/// Reads the header; the second value is the offset after it.
fn read_header(reader: &mut dyn Read, len: Option<u64>) -> Result<(Header, u64), RecordError> {
    let truncated = |found| SafetensorsError::Truncated { len: found, expected: LEN_BYTES };
    let mut prefix = Vec::new();
    reader.take(LEN_BYTES).read_to_end(&mut prefix)?;
    let prefix: [u8; 8] =
        prefix.as_slice().try_into().map_err(|_| truncated(prefix.len() as u64))?;
    let json_len = header::json_len(prefix, len.unwrap_or(u64::MAX))?;
    let mut json = Vec::new();
    reader.take(json_len).read_to_end(&mut json)?;
    let data = LEN_BYTES + json_len;
    if (json.len() as u64) < json_len {
        let len = LEN_BYTES + json.len() as u64;
        return Err(SafetensorsError::Truncated { len, expected: data }.into());
    }
    Ok((Header::decode(&json, len.map(|len| len - data))?, data))
}

/// Makes the tensor of an entry; `elements` reads a tensor of the file.
fn assemble(
    entry: &Entry,
    location: Location,
    mut elements: impl FnMut(usize) -> Result<Elements, RecordError>,
) -> Result<Tensor, RecordError> {
    let made = match location {
        Location::Float(slot) => elements(slot)?.into_tensor(&entry.shape),
        Location::Quantized { scheme, codes, scales, offsets } => {
            let codes = elements(codes)?.into_bytes();
            let scales = elements(scales)?.into_floats();
            let offsets = offsets.map(&mut elements).transpose()?;
            let offsets = offsets.unwrap_or(Elements::Bytes(Vec::new()));
            let shape = &entry.shape;
            let made = if scheme.mapping().has_minimums() {
                let minimums = offsets.into_floats();
                QuantizedTensor::with_minimums(shape, scheme, codes, scales, minimums)
            } else {
                let zero_points = offsets.into_bytes().into_iter().map(|byte| byte as i8).collect();
                QuantizedTensor::from_parts(shape, scheme, codes, scales, zero_points)
            };
            made.map(Tensor::from)
        }
    };
    made.map_err(|source| RecordFormatError::Tensor { id: entry.id.clone(), source }.into())
}
