//! The fixed parts of a record: prelude, alignment, limits.

use crate::record::error::RecordError;

/// The first bytes of a record. A byte that is no ASCII, the name, and line ends of both kinds
/// around a control-Z: a transfer that treats the file as text spoils it visibly, as in PNG.
pub(crate) const MAGIC: [u8; 8] = *b"\x89QNT\r\n\x1A\n";

/// The first bytes of an index: those of a record, but for one letter.
pub(crate) const INDEX_MAGIC: [u8; 8] = *b"\x89QNI\r\n\x1A\n";

/// The version this library writes, and the newest it reads.
pub(crate) const VERSION: u32 = 1;

/// The bytes before the header.
pub(crate) const PRELUDE_LEN: usize = 32;

/// Sections start and end on multiples of this: a cache line, and the widest vector register, so
/// that a mapped section can be used in place and read in whole registers to its very end.
pub(crate) const ALIGNMENT: u64 = 64;

/// The longest header that is written or read: some 500,000 tensors.
pub(crate) const HEADER_LIMIT: usize = 64 << 20;

/// Bytes are read, checked and written in pieces of this size, so that a piece is still in the
/// second-level cache when its checksum is taken.
pub(crate) const CHUNK: usize = 256 << 10;

/// Whether a file that starts like this means to be a record, or the index of one in parts.
pub fn is_record(start: &[u8]) -> bool {
    start.starts_with(&MAGIC) || start.starts_with(&INDEX_MAGIC)
}

/// Where the fields of the prelude lie.
mod field {
    use core::ops::Range;

    pub(crate) const MAGIC: Range<usize> = 0..8;
    pub(crate) const VERSION: Range<usize> = 8..12;
    pub(crate) const CHECKSUM: Range<usize> = 12..16;
    pub(crate) const HEADER_LEN: Range<usize> = 16..24;
    pub(crate) const FILE_LEN: Range<usize> = 24..32;
}

const _: () = {
    assert!(field::MAGIC.end - field::MAGIC.start == MAGIC.len());
    assert!(field::MAGIC.end == field::VERSION.start);
    assert!(field::VERSION.end == field::CHECKSUM.start);
    assert!(field::CHECKSUM.end == field::HEADER_LEN.start);
    assert!(field::HEADER_LEN.end == field::FILE_LEN.start);
    assert!(field::FILE_LEN.end == PRELUDE_LEN);
    assert!(ALIGNMENT.is_power_of_two());
    assert!((PRELUDE_LEN as u64) < ALIGNMENT);
    // A chunk holds whole elements of every type, and ends where a vector register does.
    assert!((CHUNK as u64).is_multiple_of(ALIGNMENT));
    // The header's end, aligned, cannot overflow.
    assert!(HEADER_LIMIT < u32::MAX as usize);
};

/// The first 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prelude {
    /// CRC-32 of all other bytes of prelude and header.
    pub(crate) checksum: u32,
    pub(crate) header_len: usize,
    pub(crate) file_len: u64,
}

impl Prelude {
    /// The prelude of this header in a file of `file_len` bytes.
    pub(crate) fn new(header: &[u8], file_len: u64) -> Self {
        let mut prelude = Self { checksum: 0, header_len: header.len(), file_len };
        prelude.checksum = prelude.checksum_with(header);
        prelude
    }

    pub(crate) fn encode(self) -> [u8; PRELUDE_LEN] {
        let mut bytes = [0; PRELUDE_LEN];
        bytes[field::MAGIC].copy_from_slice(&MAGIC);
        bytes[field::VERSION].copy_from_slice(&VERSION.to_le_bytes());
        bytes[field::CHECKSUM].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[field::HEADER_LEN].copy_from_slice(&(self.header_len as u64).to_le_bytes());
        bytes[field::FILE_LEN].copy_from_slice(&self.file_len.to_le_bytes());
        bytes
    }

    /// Reads a prelude, whose checksum is still to be compared.
    pub(crate) fn decode(bytes: &[u8; PRELUDE_LEN]) -> Result<Self, RecordError> {
        let magic: [u8; 8] = array(&bytes[field::MAGIC]);
        if magic == INDEX_MAGIC {
            return Err(RecordError::IsIndex);
        }
        if magic != MAGIC {
            return Err(RecordError::BadMagic { found: magic });
        }
        let version = u32::from_le_bytes(array(&bytes[field::VERSION]));
        if version != VERSION {
            return Err(RecordError::UnknownVersion { found: version, newest: VERSION });
        }
        Ok(Self {
            checksum: u32::from_le_bytes(array(&bytes[field::CHECKSUM])),
            header_len: header_len(u64::from_le_bytes(array(&bytes[field::HEADER_LEN])))?,
            file_len: u64::from_le_bytes(array(&bytes[field::FILE_LEN])),
        })
    }

    /// The checksum that this prelude should have before this header.
    pub(crate) fn checksum_with(self, header: &[u8]) -> u32 {
        let bytes = self.encode();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..field::CHECKSUM.start]);
        crc.update(&bytes[field::CHECKSUM.end..]);
        crc.update(header);
        crc.finalize()
    }

    /// Where the header ends.
    pub(crate) fn header_end(self) -> u64 {
        (PRELUDE_LEN + self.header_len) as u64
    }

    /// Where the first section starts.
    pub(crate) fn sections_start(self) -> u64 {
        self.header_end().next_multiple_of(ALIGNMENT)
    }
}

/// The length of a header, once it is below the limit.
pub(crate) fn header_len(len: u64) -> Result<usize, RecordError> {
    let limit = HEADER_LIMIT as u64;
    match usize::try_from(len) {
        Ok(fits) if len <= limit => Ok(fits),
        _ => Err(RecordError::HeaderTooLong { len, limit }),
    }
}

/// The bytes as an array of their length.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a field's range has its type's length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prelude_round_trip() {
        let prelude = Prelude::new(b"header", 1 << 40);
        assert_eq!(Prelude::decode(&prelude.encode()).unwrap(), prelude);
        assert_eq!(prelude.checksum, prelude.checksum_with(b"header"));
    }

    #[test]
    fn the_checksum_covers_lengths_and_header() {
        let prelude = Prelude::new(b"header", 128);
        for other in [
            Prelude { header_len: 7, ..prelude }.checksum_with(b"header"),
            Prelude { file_len: 192, ..prelude }.checksum_with(b"header"),
            prelude.checksum_with(b"reader"),
        ] {
            assert_ne!(other, prelude.checksum);
        }
    }

    #[test]
    fn sections_start_on_the_first_boundary_after_the_header() {
        for (header, start) in [(0, 64), (32, 64), (33, 128), (96, 128)] {
            assert_eq!(Prelude::new(&vec![0; header], 0).sections_start(), start);
        }
    }
}
