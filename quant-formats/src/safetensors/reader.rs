//! Reading: the header, then the tensors that are asked for.

use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::catalog::{Catalog, Source};
use super::dtype::Dtype;
use super::header::{self, Header, LEN_BYTES, Slot};
use super::{Checkpoint, Entry, Format, SafetensorsError};
use quant::__private::{FileReader, fix_endian, read_elements, reserve};
use quant::record::{Record, RecordError, RecordFormatError, RecordState};
use quant::scheme::f16_to_f32;
use quant::tensor::{QuantizedTensor, Tensor};

/// A safetensors file on disk, opened.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    file: File,
    path: PathBuf,
    /// Where the first tensor lies.
    data: u64,
    slots: Vec<Slot>,
    catalog: Catalog,
}

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self, RecordError> {
        Self::try_open(path).map_err(|error| error.in_file(path))
    }

    fn try_open(path: &Path) -> Result<Self, RecordError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut reader = FileReader::new(&file, 0);
        let (header, data) = read_header(&mut reader, Some(len))?;
        let catalog = Catalog::new(&header)?;
        Ok(Self { path: path.into(), data, slots: header.tensors, catalog, file })
    }

    /// The names of tensors that are no entries, but something else.
    pub(super) fn other_names(&self) -> impl Iterator<Item = &str> {
        let entries: HashSet<_> = self.catalog.entries.iter().map(|it| it.id.as_str()).collect();
        self.slots.iter().map(|slot| slot.name.as_str()).filter(move |name| !entries.contains(name))
    }

    fn piece(&self, slot: usize, memory: Vec<f32>) -> Result<Piece, RecordError> {
        let slot = &self.slots[slot];
        let mut reader = FileReader::new(&self.file, self.data + slot.bytes.start);
        Piece::read(&mut reader, slot, true, memory)
            .map_err(|error| RecordError::from(error).in_file(&self.path))
    }
}

impl Checkpoint for SafetensorsFile {
    fn format(&self) -> Format {
        Format::Safetensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.catalog.metadata
    }

    fn entries(&self) -> &[Entry] {
        &self.catalog.entries
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.read_into(index, Vec::new())
    }

    fn read_into(&self, index: usize, mut memory: Vec<f32>) -> Result<Tensor, RecordError> {
        let (entry, source) = (&self.catalog.entries[index], self.catalog.sources[index]);
        assemble(entry, source, |slot| self.piece(slot, core::mem::take(&mut memory)))
    }

    fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        let states = self.catalog.states.iter();
        let read = states.map(|state| {
            let data = self.piece(state.slot, Vec::new())?.into_bytes();
            Ok(RecordState { id: state.id.clone(), kind: state.kind.clone(), data })
        });
        read.collect()
    }
}

/// Reads a file that takes all of the input, of `len` bytes if that is known.
pub(super) fn load(reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError> {
    let (header, _) = read_header(reader, len)?;
    let catalog = Catalog::new(&header)?;
    let mut pieces = HashMap::new();
    let mut positions: Vec<usize> = (0..header.tensors.len()).collect();
    positions.sort_by_key(|&slot| {
        let bytes = &header.tensors[slot].bytes;
        (bytes.start, bytes.end)
    });
    for slot in positions {
        let piece = Piece::read(reader, &header.tensors[slot], len.is_some(), Vec::new())?;
        pieces.insert(slot, piece);
    }
    if reader.read(&mut [0])? > 0 {
        let expected = header.data_len();
        return Err(SafetensorsError::FileLen { found: expected + 1, expected }.into());
    }
    let mut take = |slot| Ok(pieces.remove(&slot).expect("a tensor is part of one entry"));
    let mut record = Record::new();
    for (key, value) in catalog.metadata {
        record.insert_metadata(key, value);
    }
    for (entry, source) in catalog.entries.iter().zip(catalog.sources) {
        record.insert(entry.id.clone(), assemble(entry, source, &mut take)?);
    }
    for state in catalog.states {
        let data = take(state.slot)?.into_bytes();
        record.insert_state(RecordState { id: state.id, kind: state.kind, data });
    }
    Ok(record)
}

/// The header, and the position after it.
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

/// The tensor of an entry, from its pieces.
fn assemble(
    entry: &Entry,
    source: Source,
    mut piece: impl FnMut(usize) -> Result<Piece, RecordError>,
) -> Result<Tensor, RecordError> {
    let made = match source {
        Source::Float(slot) => Tensor::from_values(&entry.shape, piece(slot)?.into_floats()),
        Source::Quantized { scheme, codes, scales, zero_points } => {
            let codes = piece(codes)?.into_bytes();
            let scales = piece(scales)?.into_floats();
            let zero_points =
                zero_points.map(|slot| Ok::<_, RecordError>(piece(slot)?.into_bytes()));
            let zero_points = zero_points.transpose()?.unwrap_or_default();
            let zero_points = zero_points.into_iter().map(|byte| byte as i8).collect();
            QuantizedTensor::from_parts(&entry.shape, scheme, codes, scales, zero_points)
                .map(Tensor::from)
        }
    };
    made.map_err(|source| {
        RecordError::from(RecordFormatError::Tensor { id: entry.id.clone(), source })
    })
}

/// The elements of one tensor of a file: floats widened, everything else as it is.
enum Piece {
    Floats(Vec<f32>),
    Bytes(Vec<u8>),
}

impl Piece {
    /// Reads a tensor's elements. Its size has been compared with the input's if that is `known`;
    /// if not, room grows with the bytes that have arrived. Floats use the `memory` that is given.
    fn read(reader: &mut dyn Read, slot: &Slot, known: bool, memory: Vec<f32>) -> io::Result<Self> {
        let len = usize::try_from(slot.bytes.end - slot.bytes.start);
        let len = len.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        match slot.dtype {
            Dtype::F32 => read_floats(reader, len / 4, known, memory).map(Self::Floats),
            Dtype::F16 => read_halves(reader, len / 2, known, memory, f16_to_f32).map(Self::Floats),
            Dtype::BF16 => {
                let widen = |bits| f32::from_bits(u32::from(bits) << 16);
                read_halves(reader, len / 2, known, memory, widen).map(Self::Floats)
            }
            _ => read_bytes(reader, len, known).map(Self::Bytes),
        }
    }

    fn into_floats(self) -> Vec<f32> {
        match self {
            Self::Floats(values) => values,
            Self::Bytes(_) => unreachable!("the catalog has compared types"),
        }
    }

    /// The bytes of a piece that is no float, or of a state's.
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Floats(_) => unreachable!("the catalog has compared types"),
        }
    }
}

fn read_floats(
    reader: &mut dyn Read,
    count: usize,
    known: bool,
    mut values: Vec<f32>,
) -> io::Result<Vec<f32>> {
    values.clear();
    read_elements(&mut values, count, known, |bytes| reader.read_exact(bytes))?;
    fix_endian(&mut values);
    Ok(values)
}

fn read_halves(
    reader: &mut dyn Read,
    count: usize,
    known: bool,
    mut values: Vec<f32>,
    widen: impl Fn(u16) -> f32,
) -> io::Result<Vec<f32>> {
    values.clear();
    let mut buffer = [0; 16 << 10];
    while values.len() < count {
        let more = (count - values.len()).min(buffer.len() / 2);
        let bytes = &mut buffer[..2 * more];
        reader.read_exact(bytes)?;
        let left = count - values.len();
        reserve(&mut values, more, left, known)?;
        let halves = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        values.extend(halves.map(&widen));
    }
    Ok(values)
}

fn read_bytes(reader: &mut dyn Read, count: usize, known: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_elements(&mut bytes, count, known, |bytes| reader.read_exact(bytes))?;
    Ok(bytes)
}
