//! What can be wrong with the bytes of a record.

use core::fmt;
use std::error::Error;

use super::foreign::ForeignFormat;
use super::section::SectionKind;
use super::version::RecordVersion;
use crate::module::ParamId;
use crate::tensor::TensorError;

/// Bytes are not a valid record, or what was to be saved cannot become one.
///
/// An error about one parameter or state starts with its path.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordFormatError {
    /// The first bytes are not those of a record.
    BadMagic {
        /// The first bytes, at most 8.
        found: Vec<u8>,
        /// The format that starts with these bytes, if it is a known one.
        looks_like: Option<ForeignFormat>,
    },
    /// The version is not one that this library reads.
    UnsupportedVersion {
        /// The version of the record.
        found: u32,
        /// The newest version that this library reads.
        newest: u32,
    },
    /// A record cannot be written in the version that was asked for.
    NewerVersion {
        /// The parameter.
        id: ParamId,
        /// The oldest version that can store the parameter.
        needed: RecordVersion,
        /// The version that was asked for.
        asked: RecordVersion,
    },
    /// The input ends before the record does.
    Truncated {
        /// The length of the input in bytes.
        at: u64,
        /// The length of the record in bytes, or a lower bound if its prelude is incomplete.
        expected: u64,
    },
    /// The input goes on after the last byte of the record.
    TrailingBytes {
        /// The length of the record in bytes.
        expected: u64,
    },
    /// The header is longer than the limit for reading and writing.
    HeaderTooLong {
        /// The length of the header in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The checksum of prelude and header differs from the stored one.
    HeaderChecksum {
        /// The checksum in the prelude.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The header cannot be decoded: a string is not UTF-8, or a list is longer than the header.
    HeaderEncoding {
        /// The reason given by the decoder.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The content of the header is shorter than the length in the prelude.
    HeaderLen {
        /// The length in the prelude, in bytes.
        declared: usize,
        /// The length of the content, in bytes.
        used: usize,
    },
    /// A padding byte is not zero.
    Padding {
        /// The offset of the byte.
        at: u64,
    },
    /// The checksum of a section differs from the stored one.
    SectionChecksum {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        kind: SectionKind,
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// Two parameters, or two states, have the same name.
    DuplicateName {
        /// The name.
        id: ParamId,
    },
    /// A name stands for a tensor that the record does not have.
    Alias {
        /// The name.
        id: ParamId,
        /// The tensor.
        of: ParamId,
    },
    /// The tensors under other names have more bytes than the record.
    AliasBytes {
        /// The first name that is too much.
        id: ParamId,
        /// The bytes of all tensors under other names, up to this one.
        bytes: u64,
        /// The length of the record.
        len: u64,
    },
    /// The keys of the metadata are not in strictly ascending order.
    MetadataOrder {
        /// The first key that is not greater than the one before it.
        key: String,
    },
    /// A field that describes how a tensor is stored has an undefined value.
    Encoding {
        /// The parameter.
        id: ParamId,
        /// The name of the field.
        field: &'static str,
        /// The value of the field.
        value: i64,
    },
    /// The number of elements of a shape overflows `usize`.
    Shape {
        /// The parameter.
        id: ParamId,
        /// The shape.
        shape: Vec<u64>,
    },
    /// The length of a section does not follow from shape and scheme.
    SectionLen {
        /// The parameter.
        id: ParamId,
        /// Which of its sections.
        kind: SectionKind,
        /// The length that shape and scheme require, in bytes.
        expected: u64,
        /// The length in the header, in bytes.
        found: u64,
    },
    /// The offset of a section is not a multiple of 64.
    Unaligned {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        kind: SectionKind,
        /// The offset of the section.
        offset: u64,
    },
    /// A section starts before the end of the previous section, or within the header.
    Overlap {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        kind: SectionKind,
        /// The offset of the section.
        offset: u64,
        /// The offset that the previous section requires.
        expected: u64,
    },
    /// There are unused bytes between a section and the previous one.
    Gap {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        kind: SectionKind,
        /// The offset of the section.
        offset: u64,
        /// The offset that the previous section requires.
        expected: u64,
    },
    /// A section extends past the end of the record.
    PastEnd {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        kind: SectionKind,
        /// The length of the section, in bytes.
        len: u64,
        /// The bytes from the start of the section to the end of the record.
        available: u64,
    },
    /// The last section ends before the file length in the prelude.
    FileLen {
        /// The file length in the prelude, in bytes.
        declared: u64,
        /// The end of the last section.
        needed: u64,
    },
    /// Values, scales and zero points do not form a tensor.
    Tensor {
        /// The parameter.
        id: ParamId,
        /// The reason.
        source: TensorError,
    },
    /// The index of a sharded record is not valid.
    ShardIndex(ShardIndexError),
    /// The bytes are the index of a sharded record, which can only be loaded from a path.
    IsShardIndex,
    /// A shard is not the file that the index refers to.
    WrongShard {
        /// The length in the index, in bytes.
        expected_len: u64,
        /// The length of the shard, in bytes.
        found_len: u64,
        /// The header checksum in the index.
        expected_checksum: u32,
        /// The header checksum of the shard.
        found_checksum: u32,
    },
}

impl fmt::Display for RecordFormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic { looks_like: Some(format), .. } => {
                write!(f, "this is {format}; {}", format.advice())
            }
            Self::BadMagic { found, looks_like: None } => {
                write!(f, "unknown format: the file starts with \"{}\"", found.escape_ascii())
            }
            Self::UnsupportedVersion { found, newest } => {
                write!(f, "unsupported version {found}; the newest supported version is {newest}")
            }
            Self::NewerVersion { id, needed, asked } => {
                write!(f, "{id}: needs version {needed} of the format, not {asked}")
            }
            Self::Truncated { at, expected } => {
                write!(f, "truncated: found {at} bytes, expected at least {expected}")
            }
            Self::TrailingBytes { expected } => {
                write!(f, "trailing bytes after the end of the record at byte {expected}")
            }
            Self::HeaderTooLong { len, limit } => {
                write!(f, "the header has {len} bytes; the limit is {limit}")
            }
            Self::HeaderChecksum { stored, computed } => write!(
                f,
                "the header is damaged: its checksum is {computed:08x}, expected {stored:08x}"
            ),
            Self::HeaderEncoding { .. } => f.write_str("cannot decode the header"),
            Self::HeaderLen { declared, used } => {
                write!(f, "the header has {declared} bytes, but its content ends after {used}")
            }
            Self::Padding { at } => write!(f, "the padding byte at {at} is not zero"),
            Self::SectionChecksum { id, kind, stored, computed } => write!(
                f,
                "{id}: {kind} damaged: the checksum is {computed:08x}, expected {stored:08x}"
            ),
            Self::DuplicateName { id } => write!(f, "{id}: duplicate name"),
            Self::Alias { id, of } => write!(f, "{id}: another name of `{of}`, which is missing"),
            Self::AliasBytes { id, bytes, len } => {
                write!(f, "{id}: {bytes} bytes under other names, in a record of {len} bytes")
            }
            Self::MetadataOrder { key } => {
                write!(f, "metadata `{key}`: duplicate key, or keys out of order")
            }
            Self::Encoding { id, field, value } => {
                write!(f, "{id}: the {field} {value} is undefined")
            }
            Self::Shape { id, shape } => write!(f, "{id}: shape {shape:?} has too many elements"),
            Self::SectionLen { id, kind, expected, found } => {
                write!(f, "{id}: {kind} have {found} bytes, expected {expected}")
            }
            Self::Unaligned { id, kind, offset } => {
                write!(f, "{id}: {kind} unaligned, at byte {offset}")
            }
            Self::Overlap { id, kind, offset, expected } => {
                write!(f, "{id}: {kind} start at byte {offset}, within what ends at {expected}")
            }
            Self::Gap { id, kind, offset, expected } => {
                write!(f, "{id}: {kind} start at byte {offset}, expected {expected}: a gap")
            }
            Self::PastEnd { id, kind, len, available } => {
                write!(f, "{id}: {kind} have {len} bytes, but only {available} are left")
            }
            Self::FileLen { declared, needed } => {
                write!(f, "the file length is {declared}, but the sections end at {needed}")
            }
            Self::Tensor { id, .. } => write!(f, "{id}: not a valid tensor"),
            Self::ShardIndex(_) => f.write_str("not a valid shard index"),
            Self::IsShardIndex => {
                f.write_str("this is a shard index, which can only be loaded from a path")
            }
            Self::WrongShard { expected_len, found_len, .. } if expected_len != found_len => {
                write!(
                    f,
                    "not the shard of this index: it has {found_len} bytes, expected {expected_len}"
                )
            }
            Self::WrongShard { expected_checksum, found_checksum, .. } => write!(
                f,
                "not the shard of this index: the checksum of its header is {found_checksum:08x}, expected {expected_checksum:08x}"
            ),
        }
    }
}

impl Error for RecordFormatError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::HeaderEncoding { source } => Some(&**source),
            Self::Tensor { source, .. } => Some(source),
            Self::ShardIndex(source) => Some(source),
            _ => None,
        }
    }
}

/// The index of a sharded record is not valid.
#[derive(Debug)]
#[non_exhaustive]
pub enum ShardIndexError {
    /// The index is longer than the limit for reading and writing.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The checksum of the index differs from the stored one.
    Checksum {
        /// The checksum in the index.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The index cannot be decoded: a string is not UTF-8, or a list is longer than the index.
    Encoding {
        /// The reason given by the decoder.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The index lists no shards.
    NoShards,
    /// The name of a shard is not that of a file in the directory of the index.
    ShardName {
        /// The name.
        name: String,
    },
    /// The index lists a shard twice. Names that differ in case only are the same.
    DuplicateShard {
        /// The name.
        name: String,
    },
}

impl fmt::Display for ShardIndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "the index has more than {limit} bytes"),
            Self::Checksum { stored, computed } => write!(
                f,
                "the index is damaged: its checksum is {computed:08x}, expected {stored:08x}"
            ),
            Self::Encoding { .. } => f.write_str("cannot decode the index"),
            Self::NoShards => f.write_str("the index lists no shards"),
            Self::ShardName { name } => {
                write!(f, "shard {name:?}: not a plain file name")
            }
            Self::DuplicateShard { name } => write!(f, "shard {name:?}: duplicate name"),
        }
    }
}

impl Error for ShardIndexError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Encoding { source } => Some(&**source),
            _ => None,
        }
    }
}

impl From<ShardIndexError> for RecordFormatError {
    fn from(error: ShardIndexError) -> Self {
        Self::ShardIndex(error)
    }
}
