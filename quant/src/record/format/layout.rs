//! The fixed parts of a record: prelude, alignment, limits.

use super::error::RecordFormatError;
use super::foreign::ForeignFormat;
use super::section::ALIGNMENT;
use super::version::RecordVersion;

/// The first bytes of a record. As in PNG, a non-ASCII byte and line ends of both kinds around a
/// control-Z reveal a transfer that treats the file as text.
pub(crate) const MAGIC: [u8; 8] = *b"\x89QNT\r\n\x1A\n";

/// The first bytes of a shard index: those of a record with `I` in place of `T`.
pub(crate) const SHARD_INDEX_MAGIC: [u8; 8] = *b"\x89QNI\r\n\x1A\n";

/// The length of the prelude, which precedes the header.
pub(crate) const PRELUDE_LEN: usize = 32;

/// The limit of the header length for reading and writing: about 500,000 tensors.
pub(crate) const HEADER_LIMIT: usize = 64 << 20;

/// Bytes are read, checked and written in chunks of this size, so that a chunk is still in the
/// second-level cache when its checksum is computed.
pub(crate) const CHUNK: usize = 256 << 10;

/// Whether a file that starts with these bytes is a record or the index of a sharded one.
pub fn is_record(start: &[u8]) -> bool {
    start.starts_with(&MAGIC) || start.starts_with(&SHARD_INDEX_MAGIC)
}

/// The byte ranges of the fields of the prelude.
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
    // A chunk holds whole elements of every type and whole vector registers.
    assert!((CHUNK as u64).is_multiple_of(ALIGNMENT));
    // The aligned end of the header cannot overflow.
    assert!(HEADER_LIMIT < u32::MAX as usize);
};

/// The first 32 bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prelude {
    pub(crate) version: RecordVersion,
    /// The CRC-32 of all other bytes of prelude and header.
    pub(crate) checksum: u32,
    pub(crate) header_len: usize,
    pub(crate) file_len: u64,
}

impl Prelude {
    /// The prelude of a file of `file_len` bytes that has this header.
    pub(crate) fn new(version: RecordVersion, header: &[u8], file_len: u64) -> Self {
        let mut prelude = Self { version, checksum: 0, header_len: header.len(), file_len };
        prelude.checksum = prelude.checksum_with(header);
        prelude
    }

    pub(crate) fn encode(self) -> [u8; PRELUDE_LEN] {
        let mut bytes = [0; PRELUDE_LEN];
        bytes[field::MAGIC].copy_from_slice(&MAGIC);
        bytes[field::VERSION].copy_from_slice(&self.version.number().to_le_bytes());
        bytes[field::CHECKSUM].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[field::HEADER_LEN].copy_from_slice(&(self.header_len as u64).to_le_bytes());
        bytes[field::FILE_LEN].copy_from_slice(&self.file_len.to_le_bytes());
        bytes
    }

    /// Decodes a prelude. The caller compares the checksum once it has the header.
    pub(crate) fn decode(bytes: &[u8; PRELUDE_LEN]) -> Result<Self, RecordFormatError> {
        check_magic(bytes)?;
        let number = u32::from_le_bytes(array(&bytes[field::VERSION]));
        let Some(version) = RecordVersion::of_number(number) else {
            let newest = RecordVersion::NEWEST.number();
            return Err(RecordFormatError::UnsupportedVersion { found: number, newest });
        };
        Ok(Self {
            version,
            checksum: u32::from_le_bytes(array(&bytes[field::CHECKSUM])),
            header_len: header_len(u64::from_le_bytes(array(&bytes[field::HEADER_LEN])))?,
            file_len: u64::from_le_bytes(array(&bytes[field::FILE_LEN])),
        })
    }

    /// The checksum of this prelude and `header`.
    pub(crate) fn checksum_with(self, header: &[u8]) -> u32 {
        let bytes = self.encode();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..field::CHECKSUM.start]);
        crc.update(&bytes[field::CHECKSUM.end..]);
        crc.update(header);
        crc.finalize()
    }

    /// The end of the header.
    pub(crate) fn header_end(self) -> u64 {
        (PRELUDE_LEN + self.header_len) as u64
    }

    /// The start of the first section.
    pub(crate) fn sections_start(self) -> u64 {
        sections_start(self.header_len)
    }
}

/// The start of the first section after a header of this length.
pub(super) fn sections_start(header_len: usize) -> u64 {
    ((PRELUDE_LEN + header_len) as u64).next_multiple_of(ALIGNMENT)
}

/// Checks that a file with these first bytes is a record.
pub(crate) fn check_magic(start: &[u8]) -> Result<(), RecordFormatError> {
    if start.starts_with(&SHARD_INDEX_MAGIC) {
        return Err(RecordFormatError::IsShardIndex);
    }
    if start.starts_with(&MAGIC) { Ok(()) } else { Err(bad_magic(start)) }
}

pub(super) fn bad_magic(start: &[u8]) -> RecordFormatError {
    let found = start[..start.len().min(MAGIC.len())].to_vec();
    RecordFormatError::BadMagic { found, looks_like: ForeignFormat::of_start(start) }
}

/// Checks the length of a header against the limit.
pub(crate) fn header_len(len: u64) -> Result<usize, RecordFormatError> {
    let limit = HEADER_LIMIT as u64;
    match usize::try_from(len) {
        Ok(fits) if len <= limit => Ok(fits),
        _ => Err(RecordFormatError::HeaderTooLong { len, limit }),
    }
}

/// The bytes as an array.
///
/// # Panics
/// If there are not exactly `N` bytes.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the range of a field has the length of its type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prelude_round_trip() {
        let prelude = Prelude::new(RecordVersion::V2, b"header", 1 << 40);
        assert_eq!(Prelude::decode(&prelude.encode()).unwrap(), prelude);
        assert_eq!(prelude.checksum, prelude.checksum_with(b"header"));
    }

    #[test]
    fn the_checksum_covers_version_lengths_and_header() {
        let prelude = Prelude::new(RecordVersion::V1, b"header", 128);
        for other in [
            Prelude { version: RecordVersion::V2, ..prelude }.checksum_with(b"header"),
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
            assert_eq!(sections_start(header), start);
        }
    }
}
