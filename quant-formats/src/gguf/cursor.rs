//! The bytes of a header, read as they are parsed.

use std::io::{self, Read};
use std::ops::Range;

use quant::RecordError;

use super::error::GgufError;

/// The longest header that is read, with all metadata and names; a tokenizer takes about a tenth.
pub(super) const LIMIT: u64 = 100_000_000;

/// Up to this many bytes are claimed and read at once, before it is known that they arrive.
const CHUNK: u64 = 1 << 16;

/// Reads a header from its start, and keeps its bytes.
pub(super) struct Cursor<'a> {
    reader: &'a mut dyn Read,
    bytes: Vec<u8>,
    /// The length of the file, if it is known.
    len: Option<u64>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(reader: &'a mut dyn Read, len: Option<u64>) -> Self {
        Self { reader, bytes: Vec::new(), len }
    }

    /// The offset of the next byte.
    pub(super) fn at(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that may follow.
    fn available(&self) -> u64 {
        self.len.map_or(LIMIT, |len| len.min(LIMIT)).saturating_sub(self.bytes.len() as u64)
    }

    /// Checks that `count` items of at least `least` bytes each may follow.
    pub(super) fn check_count(&self, count: u64, least: u64) -> Result<(), GgufError> {
        let available = self.available();
        match count.checked_mul(least) {
            Some(needed) if needed <= available => Ok(()),
            _ => Err(GgufError::Count { count, available }),
        }
    }

    /// Reads the next bytes; their position is that in [`bytes`](Self::bytes).
    pub(super) fn take(&mut self, len: u64) -> Result<Range<usize>, RecordError> {
        let start = self.bytes.len();
        let expected = (start as u64).saturating_add(len);
        if let Some(file) = self.len
            && expected > file
        {
            return Err(GgufError::Truncated { len: file, expected }.into());
        }
        if expected > LIMIT {
            return Err(GgufError::HeaderTooLong { limit: LIMIT }.into());
        }
        // `LIMIT` fits into `usize`, and so does what is below it.
        self.fill(expected as usize)?;
        Ok(start..expected as usize)
    }

    /// Reads up to this offset, a chunk at a time: memory grows with the bytes that arrive.
    fn fill(&mut self, end: usize) -> Result<(), RecordError> {
        while self.bytes.len() < end {
            let start = self.bytes.len();
            self.bytes.resize(end.min(start + CHUNK as usize), 0);
            match self.reader.read_exact(&mut self.bytes[start..]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    let (len, expected) = (start as u64, end as u64);
                    return Err(GgufError::Truncated { len, expected }.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let range = self.take(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Skips a length and as many bytes.
    pub(super) fn string(&mut self) -> Result<Range<usize>, RecordError> {
        let len = self.u64()?;
        self.take(len)
    }

    /// Reads a key or a name.
    pub(super) fn name(&mut self) -> Result<String, RecordError> {
        let range = self.string()?;
        let offset = range.start as u64;
        match std::str::from_utf8(&self.bytes[range]) {
            Ok(name) => Ok(name.into()),
            Err(_) => Err(GgufError::NotUtf8 { offset }.into()),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
