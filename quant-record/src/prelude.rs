//! The first 32 bytes of a record.

use crate::bytes::Bytes;
use crate::crc32::crc32;
use crate::encoding::Version;
use crate::error::RecordError;
use crate::limits::HEADER_LIMIT;

/// Sections start on multiples of this.
pub(crate) const ALIGNMENT: usize = 64;

const MAGIC: &[u8] = b"\x89QNT\r\n\x1A\n";
const SHARD_INDEX_MAGIC: &[u8] = b"\x89QNI\r\n\x1A\n";
const PRELUDE_LEN: usize = 32;
/// The byte range of the checksum, which does not cover itself.
const CHECKSUM: core::ops::Range<usize> = 12..16;

/// What a prelude says, compared with the bytes present.
pub(crate) struct Prelude<'a> {
    pub(crate) version: Version,
    pub(crate) header: &'a [u8],
    /// The end of the header.
    pub(crate) end: usize,
}

impl<'a> Prelude<'a> {
    /// The prelude of the record that `file` is.
    pub(crate) fn decode(file: &'a [u8]) -> Result<Self, RecordError<'a>> {
        let mut bytes = Bytes(file);
        match bytes.take(MAGIC.len()) {
            Some(magic) if magic == SHARD_INDEX_MAGIC => return Err(RecordError::ShardIndex),
            Some(magic) if magic == MAGIC => {}
            _ => return Err(RecordError::BadMagic),
        }
        let truncated = |expected| RecordError::FileLen { expected, found: file.len() };
        let short = truncated(PRELUDE_LEN as u64);
        let version = match bytes.u32().ok_or(short)? {
            1 => Version::V1,
            2 => Version::V2,
            found => return Err(RecordError::UnsupportedVersion { found }),
        };
        let stored = bytes.u32().ok_or(short)?;
        let header_len = bytes.u64().ok_or(short)?;
        let file_len = bytes.u64().ok_or(short)?;
        if header_len > HEADER_LIMIT as u64 {
            return Err(RecordError::HeaderTooLong { len: header_len });
        }
        let header = bytes.take(header_len as usize).ok_or(truncated(file_len))?;
        let end = PRELUDE_LEN + header.len();
        let computed = crc32(&[&file[..CHECKSUM.start], &file[CHECKSUM.end..end]]);
        if stored != computed {
            return Err(RecordError::HeaderChecksum { stored, computed });
        }
        if file_len != file.len() as u64 {
            return Err(truncated(file_len));
        }
        Ok(Self { version, header, end })
    }
}
