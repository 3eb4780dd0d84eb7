//! Reads an input from start to end, every byte once.
//!
//! No allocation is made from a claimed size alone: if the length of the input is known, the claim is
//! compared with it first; if not, memory grows with the bytes that have arrived.

use std::io::{ErrorKind, Read};

use super::elements::{Element, fix_endian, read_elements};
use super::error::ReadError;
use crate::module::ParamId;
use crate::record::collection::Record;
use crate::record::format::entry::{RecordEntry, RecordState, Stored};
use crate::record::format::error::RecordFormatError;
use crate::record::format::header::Header;
use crate::record::format::layout::{CHUNK, MAGIC, PRELUDE_LEN, Prelude, check_magic};
use crate::record::format::section::{ALIGNMENT, Section, SectionKind};
use crate::record::format::validate::{CheckedHeader, validate};
use crate::record::format::version::RecordVersion;
use crate::scheme::{QuantizationScheme, ScaleType, packing};
use crate::tensor::{
    Buffer, FloatType, HalfType, Offsets, QuantizedTensor, SharedTensor, Tensor, TensorError,
};

/// Reads a record from an input of `len` bytes, if that is known.
pub(crate) fn load(reader: &mut dyn Read, len: Option<u64>) -> Result<Record, ReadError> {
    let mut source = Source::new(reader, len);
    let (prelude, header) = source.start()?;
    let (start, end) = (prelude.sections_start(), prelude.file_len);
    let checked = validate(prelude.version, Header::decode(&header)?, start, end)?;
    source.padding()?;
    let record = source.record(prelude.version, &checked)?;
    source.end()?;
    Ok(record)
}

/// A reader that counts the bytes it has read.
pub(crate) struct Source<'a> {
    reader: &'a mut dyn Read,
    at: u64,
    /// The length of the input, if it is known.
    len: Option<u64>,
    /// A lower bound of the length of the record; the length itself once the prelude has been read.
    expected: u64,
}

impl<'a> Source<'a> {
    /// The start of an input of `len` bytes, if that is known.
    pub(crate) fn new(reader: &'a mut dyn Read, len: Option<u64>) -> Self {
        Self { reader, at: 0, len, expected: PRELUDE_LEN as u64 }
    }

    /// Offset `at` of a record of `len` bytes whose header has been validated.
    pub(crate) fn within(reader: &'a mut dyn Read, at: u64, len: u64) -> Self {
        Self { reader, at, len: Some(len), expected: len }
    }

    /// Reads the prelude and the bytes of the header, and checks their checksum.
    pub(crate) fn start(&mut self) -> Result<(Prelude, Vec<u8>), ReadError> {
        let prelude = self.prelude()?;
        let header = self.header(prelude)?;
        self.expect_len(prelude.file_len)?;
        Ok((prelude, header))
    }

    fn prelude(&mut self) -> Result<Prelude, ReadError> {
        let mut bytes = [0; PRELUDE_LEN];
        let read = self.fill_up_to(&mut bytes)?;
        if read < bytes.len() {
            let start = &bytes[..read];
            // A short file of another format is not a truncated record.
            if !MAGIC.starts_with(start) {
                check_magic(start)?;
            }
            return Err(self.truncated());
        }
        Ok(Prelude::decode(&bytes)?)
    }

    /// Reads the bytes of the header and checks their checksum.
    fn header(&mut self, prelude: Prelude) -> Result<Vec<u8>, ReadError> {
        self.expected = prelude.header_end();
        self.not_shorter()?;
        let (header, _) = self.read_vec(prelude.header_len)?;
        let (stored, computed) = (prelude.checksum, prelude.checksum_with(&header));
        if stored == computed {
            Ok(header)
        } else {
            Err(RecordFormatError::HeaderChecksum { stored, computed }.into())
        }
    }

    /// Compares the length of the record with that of the input.
    fn expect_len(&mut self, expected: u64) -> Result<(), ReadError> {
        self.expected = expected;
        self.not_shorter()?;
        match self.len {
            Some(len) if len > expected => {
                Err(RecordFormatError::TrailingBytes { expected }.into())
            }
            _ => Ok(()),
        }
    }

    fn not_shorter(&self) -> Result<(), ReadError> {
        match self.len {
            Some(at) if at < self.expected => {
                Err(RecordFormatError::Truncated { at, expected: self.expected }.into())
            }
            _ => Ok(()),
        }
    }

    fn record(
        &mut self,
        version: RecordVersion,
        checked: &CheckedHeader<'_>,
    ) -> Result<Record, ReadError> {
        let mut record = Record::new();
        for entry in &checked.metadata {
            record.insert_metadata(&*entry.key, &*entry.value);
        }
        for tensor in &checked.tensors {
            let made = self.tensor(version, &tensor.entry, tensor.sections)?;
            record.insert(tensor.entry.id.clone(), made);
        }
        for (id, of) in &checked.aliases {
            if let Some(tensor) = record.get(checked.tensors[*of].entry.id.as_str()) {
                let tensor = tensor.clone();
                record.insert(id.clone(), tensor);
            }
        }
        for state in &checked.states {
            record.insert_state(self.state(&state.name, &state.kind, state.section)?);
        }
        Ok(record)
    }

    /// Reads the state at the current position.
    pub(crate) fn state(
        &mut self,
        name: &str,
        kind: &str,
        section: Section,
    ) -> Result<RecordState, ReadError> {
        let data = self.section(name, SectionKind::State, section)?;
        Ok(RecordState { id: ParamId::new(name), kind: kind.into(), data })
    }

    /// Reads the tensor of a record of this version at the current position.
    pub(crate) fn tensor(
        &mut self,
        version: RecordVersion,
        entry: &RecordEntry,
        sections: [Section; 3],
    ) -> Result<Tensor, ReadError> {
        let RecordEntry { id, shape, stored } = entry;
        let (name, [values, scales, zero_points]) = (id.as_str(), sections);
        let made = match *stored {
            Stored::Float(ty) => self.floats(name, shape, ty, values)?,
            Stored::Quantized(scheme) => {
                let codes: Vec<u8> = self.section(name, SectionKind::Values, values)?;
                let ty = scheme.scale_type();
                let scales = self.scales(name, SectionKind::Scales, ty, scales)?;
                let offsets = if scheme.mapping().has_minimums() {
                    let minimums = self.scales(name, SectionKind::Minimums, ty, zero_points)?;
                    Offsets::Minimums(minimums.into())
                } else {
                    let zero_points: Vec<i8> =
                        self.section(name, SectionKind::ZeroPoints, zero_points)?;
                    Offsets::ZeroPoints(zero_points.into())
                };
                quantized(version, (shape, scheme), codes.into(), scales.into(), offsets)
            }
        };
        // The empty sections of a float tensor have no bytes and no padding to skip.
        made.map_err(|source: TensorError| {
            RecordFormatError::Tensor { id: id.clone(), source }.into()
        })
    }

    fn floats(
        &mut self,
        name: &str,
        shape: &[usize],
        ty: FloatType,
        section: Section,
    ) -> Result<Result<Tensor, TensorError>, ReadError> {
        let kind = SectionKind::Values;
        let made = match HalfType::of(ty) {
            None => SharedTensor::new(shape, self.section(name, kind, section)?),
            Some(half) => {
                let bits: Vec<u16> = self.section(name, kind, section)?;
                SharedTensor::from_bits(shape, half, bits.into())
            }
        };
        Ok(made.map(Tensor::from))
    }

    /// Reads elements of a section at the current position, with the checksum of their bytes, and
    /// checks the padding after the last one.
    pub(crate) fn elements<T: Element>(
        &mut self,
        count: usize,
        is_last: bool,
    ) -> Result<(Vec<T>, u32), ReadError> {
        let (mut elements, computed) = self.read_vec::<T>(count)?;
        if is_last {
            self.padding()?;
        }
        fix_endian(&mut elements);
        Ok((elements, computed))
    }

    /// Checks the checksum and padding of the section at the current position, in constant memory.
    pub(crate) fn verify(
        &mut self,
        name: &str,
        kind: SectionKind,
        section: Section,
    ) -> Result<(), ReadError> {
        let mut chunk = vec![0; section.len.min(CHUNK as u64) as usize];
        let (mut left, mut crc) = (section.len, crc32fast::Hasher::new());
        while left > 0 {
            let bytes = &mut chunk[..left.min(CHUNK as u64) as usize];
            self.fill(bytes)?;
            crc.update(bytes);
            left -= bytes.len() as u64;
        }
        check_crc(name, kind, section, crc.finalize())?;
        self.padding()
    }

    fn scales(
        &mut self,
        name: &str,
        kind: SectionKind,
        stored_as: ScaleType,
        section: Section,
    ) -> Result<Vec<f32>, ReadError> {
        match stored_as {
            ScaleType::F32 => self.section(name, kind, section),
            ScaleType::F16 => Ok(HalfType::F16.widen(&self.section(name, kind, section)?)),
            ScaleType::Bf16 => Ok(HalfType::Bf16.widen(&self.section(name, kind, section)?)),
            _ => unreachable!("records have no other scales"),
        }
    }

    /// Reads the elements of a section, and checks their checksum and padding.
    fn section<T: Element>(
        &mut self,
        name: &str,
        kind: SectionKind,
        section: Section,
    ) -> Result<Vec<T>, ReadError> {
        let (mut elements, computed) = self.read_vec::<T>(section.len as usize / size_of::<T>())?;
        check_crc(name, kind, section, computed)?;
        self.padding()?;
        fix_endian(&mut elements);
        Ok(elements)
    }

    /// Reads `count` little-endian elements; returns them with the checksum of their bytes.
    fn read_vec<T: Element>(&mut self, count: usize) -> Result<(Vec<T>, u32), ReadError> {
        let (mut elements, mut crc) = (Vec::new(), crc32fast::Hasher::new());
        let known = self.len.is_some();
        read_elements(&mut elements, count, known, |bytes| {
            self.fill(bytes)?;
            crc.update(bytes);
            Ok::<_, ReadError>(())
        })?;
        Ok((elements, crc.finalize()))
    }

    /// Reads zeros up to the next multiple of 64.
    pub(crate) fn padding(&mut self) -> Result<(), ReadError> {
        let start = self.at;
        let mut bytes = [0; ALIGNMENT as usize];
        let bytes = &mut bytes[..(start.next_multiple_of(ALIGNMENT) - start) as usize];
        self.fill(bytes)?;
        Ok(check_padding(bytes, start)?)
    }

    /// Checks that the input ends here.
    fn end(&mut self) -> Result<(), ReadError> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(RecordFormatError::TrailingBytes { expected: self.expected }.into()),
        }
    }

    /// Fills `buffer`.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        if self.fill_up_to(buffer)? < buffer.len() { Err(self.truncated()) } else { Ok(()) }
    }

    /// Fills `buffer` up to the end of the input; returns the number of bytes read.
    fn fill_up_to(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    fn truncated(&self) -> ReadError {
        RecordFormatError::Truncated { at: self.at, expected: self.expected }.into()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    // A faulty reader may return more than the length of the buffer.
                    let read = result?.min(buffer.len());
                    self.at += read as u64;
                    return Ok(read);
                }
            }
        }
    }
}

/// The quantized tensor of codes as a record of this version stores them.
pub(crate) fn quantized(
    version: RecordVersion,
    (shape, scheme): (&[usize], QuantizationScheme),
    stored: Buffer<u8>,
    scales: Buffer<f32>,
    offsets: Offsets,
) -> Result<Tensor, TensorError> {
    let ty = scheme.quantization_type();
    let codes = if version.is_dense(ty) {
        let codes = packing::from_dense(&stored, shape, ty);
        codes.map_err(|byte| TensorError::Padding { byte })?.into()
    } else {
        stored
    };
    QuantizedTensor::from_buffers(shape, scheme, codes, scales, offsets).map(Tensor::from)
}

/// Compares the computed checksum of a section with the one in the header.
pub(crate) fn check_crc(
    name: &str,
    kind: SectionKind,
    section: Section,
    computed: u32,
) -> Result<(), RecordFormatError> {
    let stored = section.crc32;
    if stored == computed {
        Ok(())
    } else {
        Err(RecordFormatError::SectionChecksum { id: name.into(), kind, stored, computed })
    }
}

/// Checks that padding is zero; `at` is its offset in the file.
pub(crate) fn check_padding(padding: &[u8], at: u64) -> Result<(), RecordFormatError> {
    match padding.iter().position(|&byte| byte != 0) {
        Some(i) => Err(RecordFormatError::Padding { at: at + i as u64 }),
        None => Ok(()),
    }
}
