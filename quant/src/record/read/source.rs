//! Reading: every byte once, straight to where it stays.
//!
//! Nothing is allocated on the word of the record alone. When the length of the input is known, a
//! claim is compared with it first; when it is not, room grows with the bytes that have arrived.

use std::io::{ErrorKind, Read};

use super::elements::{Element, fix_endian, read_elements, widen};
use crate::module::ParamId;
use crate::record::collection::Record;
use crate::record::error::RecordError;
use crate::record::format::entry::RecordEntry;
use crate::record::format::entry::State;
use crate::record::format::header::Header;
use crate::record::format::layout::{ALIGNMENT, CHUNK, PRELUDE_LEN, Prelude};
use crate::record::format::section::Part;
use crate::record::format::section::Section;
use crate::record::format::validate::{Checked, validate};
use crate::scheme::ScaleType;
use crate::tensor::{QuantizedTensor, Tensor, TensorError};

/// Reads a record from an input of `len` bytes, if that is known.
pub(crate) fn load(reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError> {
    let mut source = Source::new(reader, len);
    let (prelude, header) = source.start()?;
    let checked = validate(Header::decode(&header)?, prelude.sections_start(), prelude.file_len)?;
    source.padding()?;
    let record = source.record(&checked)?;
    source.end()?;
    Ok(record)
}

/// A reader that knows its position.
pub(crate) struct Source<'a> {
    reader: &'a mut dyn Read,
    at: u64,
    /// The length of the input, if it is known.
    len: Option<u64>,
    /// Where the record ends, as far as it has been read.
    expected: u64,
}

impl<'a> Source<'a> {
    /// The start of an input of `len` bytes, if that is known.
    pub(crate) fn new(reader: &'a mut dyn Read, len: Option<u64>) -> Self {
        Self { reader, at: 0, len, expected: PRELUDE_LEN as u64 }
    }

    /// A place within a record of `len` bytes whose header has been checked.
    pub(crate) fn within(reader: &'a mut dyn Read, at: u64, len: u64) -> Self {
        Self { reader, at, len: Some(len), expected: len }
    }

    /// The prelude, and the header's bytes once their checksum is right.
    pub(crate) fn start(&mut self) -> Result<(Prelude, Vec<u8>), RecordError> {
        let prelude = self.prelude()?;
        let header = self.header(prelude)?;
        self.expect_len(prelude.file_len)?;
        Ok((prelude, header))
    }

    fn prelude(&mut self) -> Result<Prelude, RecordError> {
        let mut bytes = [0; PRELUDE_LEN];
        self.fill(&mut bytes)?;
        Prelude::decode(&bytes)
    }

    /// The header's bytes, once their checksum is right.
    fn header(&mut self, prelude: Prelude) -> Result<Vec<u8>, RecordError> {
        self.expected = prelude.header_end();
        self.not_shorter()?;
        let (header, _) = self.read_vec(prelude.header_len)?;
        let (stored, computed) = (prelude.checksum, prelude.checksum_with(&header));
        if stored == computed {
            Ok(header)
        } else {
            Err(RecordError::HeaderChecksum { stored, computed })
        }
    }

    /// Compares the record's length with the input's.
    fn expect_len(&mut self, expected: u64) -> Result<(), RecordError> {
        self.expected = expected;
        self.not_shorter()?;
        match self.len {
            Some(len) if len > expected => Err(RecordError::TrailingBytes { expected }),
            _ => Ok(()),
        }
    }

    fn not_shorter(&self) -> Result<(), RecordError> {
        match self.len {
            Some(at) if at < self.expected => {
                Err(RecordError::Truncated { at, expected: self.expected })
            }
            _ => Ok(()),
        }
    }

    fn record(&mut self, checked: &Checked<'_>) -> Result<Record, RecordError> {
        let mut record = Record::new();
        for entry in &checked.metadata {
            record.insert_metadata(&*entry.key, &*entry.value);
        }
        for tensor in &checked.tensors {
            let made = self.tensor(&tensor.entry, tensor.sections)?;
            record.insert(tensor.entry.id.clone(), made);
        }
        for state in &checked.states {
            record.insert_state(self.state(&state.name, &state.kind, state.section)?);
        }
        Ok(record)
    }

    /// The state that lies here.
    pub(crate) fn state(
        &mut self,
        name: &str,
        kind: &str,
        section: Section,
    ) -> Result<State, RecordError> {
        let data = self.section(name, Part::State, section)?;
        Ok(State { id: ParamId::new(name), kind: kind.into(), data })
    }

    /// The tensor that lies here.
    pub(crate) fn tensor(
        &mut self,
        entry: &RecordEntry,
        sections: [Section; 3],
    ) -> Result<Tensor, RecordError> {
        let RecordEntry { id, shape, scheme } = entry;
        let (name, [values, scales, zero_points]) = (id.as_str(), sections);
        let made = match *scheme {
            None => Tensor::from_values(shape, self.section(name, Part::Values, values)?),
            Some(scheme) => {
                let codes = self.section(name, Part::Values, values)?;
                let scales = self.scales(name, scheme.scale_type(), scales)?;
                let zero_points = self.section(name, Part::ZeroPoints, zero_points)?;
                let made = QuantizedTensor::from_parts(shape, scheme, codes, scales, zero_points);
                made.map(Tensor::from)
            }
        };
        // The empty sections of a float tensor take no bytes and no padding: there is nothing to skip.
        made.map_err(|source: TensorError| RecordError::Tensor { id: id.clone(), source })
    }

    /// Checks the section that lies here, and keeps nothing of it.
    pub(crate) fn verify(
        &mut self,
        name: &str,
        part: Part,
        section: Section,
    ) -> Result<(), RecordError> {
        let mut piece = vec![0; section.len.min(CHUNK as u64) as usize];
        let (mut left, mut crc) = (section.len, crc32fast::Hasher::new());
        while left > 0 {
            let bytes = &mut piece[..left.min(CHUNK as u64) as usize];
            self.fill(bytes)?;
            crc.update(bytes);
            left -= bytes.len() as u64;
        }
        check_crc(name, part, section, crc.finalize())?;
        self.padding()
    }

    fn scales(
        &mut self,
        name: &str,
        stored_as: ScaleType,
        section: Section,
    ) -> Result<Vec<f32>, RecordError> {
        match stored_as {
            ScaleType::F32 => self.section(name, Part::Scales, section),
            ScaleType::F16 => Ok(widen(&self.section(name, Part::Scales, section)?)),
        }
    }

    /// The elements of a section, once their checksum is right and zeros follow.
    fn section<T: Element>(
        &mut self,
        name: &str,
        part: Part,
        section: Section,
    ) -> Result<Vec<T>, RecordError> {
        let (mut elements, computed) = self.read_vec::<T>(section.len as usize / size_of::<T>())?;
        check_crc(name, part, section, computed)?;
        self.padding()?;
        fix_endian(&mut elements);
        Ok(elements)
    }

    /// The next `count` elements as they lie in the input, and the checksum of their bytes.
    fn read_vec<T: Element>(&mut self, count: usize) -> Result<(Vec<T>, u32), RecordError> {
        let (mut elements, mut crc) = (Vec::new(), crc32fast::Hasher::new());
        let known = self.len.is_some();
        read_elements(&mut elements, count, known, |bytes| {
            self.fill(bytes)?;
            crc.update(bytes);
            Ok::<_, RecordError>(())
        })?;
        Ok((elements, crc.finalize()))
    }

    /// Reads zeros up to the next boundary.
    pub(crate) fn padding(&mut self) -> Result<(), RecordError> {
        let start = self.at;
        let mut bytes = [0; ALIGNMENT as usize];
        let bytes = &mut bytes[..(start.next_multiple_of(ALIGNMENT) - start) as usize];
        self.fill(bytes)?;
        check_padding(bytes, start)
    }

    /// Checks that the input ends here.
    fn end(&mut self) -> Result<(), RecordError> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(RecordError::TrailingBytes { expected: self.expected }),
        }
    }

    /// Reads exactly as many bytes as `buffer` has.
    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), RecordError> {
        while !buffer.is_empty() {
            let read = self.read(buffer)?;
            if read == 0 {
                return Err(RecordError::Truncated { at: self.at, expected: self.expected });
            }
            buffer = &mut buffer[read..];
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RecordError> {
        loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    // A reader that claims more than it was given room for is not believed.
                    let read = result?.min(buffer.len());
                    self.at += read as u64;
                    return Ok(read);
                }
            }
        }
    }
}

/// Compares the checksum of a section's bytes with the one in the header.
pub(crate) fn check_crc(
    name: &str,
    part: Part,
    section: Section,
    computed: u32,
) -> Result<(), RecordError> {
    let stored = section.crc32;
    if stored == computed {
        Ok(())
    } else {
        Err(RecordError::Checksum { id: name.into(), part, stored, computed })
    }
}

/// Checks that the padding that starts at byte `at` is zero.
pub(crate) fn check_padding(padding: &[u8], at: u64) -> Result<(), RecordError> {
    match padding.iter().position(|&byte| byte != 0) {
        Some(i) => Err(RecordError::Padding { at: at + i as u64 }),
        None => Ok(()),
    }
}
