//! Why bytes are no record, or one that this reader does not take.

use core::fmt;

use crate::limits::{ENTRY_LIMIT, HEADER_LIMIT, RANK_LIMIT};

/// Bytes are no valid record, or exceed a limit of this reader.
///
/// An error about one tensor or state has its name, and its message starts with it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RecordError<'a> {
    /// The first bytes are not those of a record.
    BadMagic,
    /// The file is the index of a record in shards, each of which is a record of its own.
    ShardIndex,
    /// The version is not one that this reader knows.
    UnsupportedVersion {
        /// The version of the record.
        found: u32,
    },
    /// The input is not as long as the record says.
    FileLen {
        /// The length that the record says or, if its prelude is incomplete, needs, in bytes.
        expected: u64,
        /// The length of the input.
        found: usize,
    },
    /// The header is longer than [`HEADER_LIMIT`](crate::HEADER_LIMIT).
    HeaderTooLong {
        /// The length of the header in bytes.
        len: u64,
    },
    /// The checksum of prelude and header differs from the stored one.
    HeaderChecksum {
        /// The checksum in the prelude.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The header cannot be decoded: a string is not UTF-8, a list is longer than the header, or
    /// bytes are left over.
    HeaderEncoding,
    /// There are more than [`ENTRY_LIMIT`](crate::ENTRY_LIMIT) pairs of metadata, tensors or states.
    TooManyEntries {
        /// Their number.
        count: u64,
    },
    /// The keys of the metadata are not in strictly ascending order.
    MetadataOrder {
        /// The first key that is not greater than the one before it.
        key: &'a str,
    },
    /// Two tensors, or two states, have the same name.
    DuplicateName {
        /// The name.
        name: &'a str,
    },
    /// A name stands for a tensor that the record does not have.
    Alias {
        /// The name.
        name: &'a str,
        /// The tensor.
        of: &'a str,
    },
    /// The tensors under other names have more bytes than the record.
    AliasBytes {
        /// The first name that is too much.
        name: &'a str,
    },
    /// A field that describes how a tensor is stored has an undefined value.
    Encoding {
        /// The tensor.
        name: &'a str,
        /// The name of the field.
        field: &'static str,
        /// The value of the field.
        value: i64,
    },
    /// A tensor has more axes than [`RANK_LIMIT`](crate::RANK_LIMIT).
    TooManyAxes {
        /// The tensor.
        name: &'a str,
        /// The number of its axes.
        rank: usize,
    },
    /// The elements of a shape cannot be counted, or the scheme has an axis that the shape has not.
    Shape {
        /// The tensor.
        name: &'a str,
    },
    /// A section is not where it must be, or has another length or other bytes.
    Section {
        /// The tensor or state.
        name: &'a str,
        /// Which of its sections.
        kind: SectionKind,
        /// What is wrong.
        fault: SectionFault,
    },
    /// The last section ends before the record does.
    UnusedBytes {
        /// The end of the last section.
        needed: usize,
    },
    /// A padding byte between header and sections is not zero.
    Padding {
        /// The offset of the byte.
        at: usize,
    },
    /// A code is outside of the range of its scheme, or the bits after the last code of a row are not 0.
    Code {
        /// The tensor.
        name: &'a str,
        /// The number of the row.
        row: usize,
    },
    /// A scale is not a number that the scheme allows.
    Scale {
        /// The tensor.
        name: &'a str,
        /// The number of the group.
        group: usize,
    },
    /// A zero point is no code, or a minimum is not finite.
    Offset {
        /// The tensor.
        name: &'a str,
        /// The number of the group.
        group: usize,
    },
}

/// A section of a tensor or state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SectionKind {
    /// Floats, or packed codes.
    Values,
    /// Scales.
    Scales,
    /// Zero points or minimums.
    Offsets,
    /// The bytes of a state.
    State,
}

/// What is wrong with a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SectionFault {
    /// It does not start at the multiple of 64 after the section before it.
    Offset {
        /// Where it must start.
        expected: u64,
        /// Where the header says that it starts.
        found: u64,
    },
    /// It ends after the record.
    PastEnd {
        /// Its length in bytes.
        len: u64,
    },
    /// Its length does not follow from shape and scheme.
    Length {
        /// The length that shape and scheme require, in bytes.
        expected: u64,
        /// The length in the header.
        found: u64,
    },
    /// Its checksum differs from the stored one.
    Checksum {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
}

impl fmt::Display for RecordError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic => f.write_str("not a record"),
            Self::ShardIndex => f.write_str("an index of shards, which are records themselves"),
            Self::UnsupportedVersion { found } => write!(f, "version {found} is unknown"),
            Self::FileLen { expected, found } => {
                write!(f, "{found} bytes in place of {expected}")
            }
            Self::HeaderTooLong { len } => {
                write!(f, "the header has {len} bytes; {HEADER_LIMIT} are the limit")
            }
            Self::HeaderChecksum { stored, computed } => {
                write!(f, "the header has the checksum {computed:#010x}, not {stored:#010x}")
            }
            Self::HeaderEncoding => f.write_str("the header cannot be decoded"),
            Self::TooManyEntries { count } => {
                write!(f, "a list has {count} entries; {ENTRY_LIMIT} are the limit")
            }
            Self::MetadataOrder { key } => write!(f, "{key}: not after the key before it"),
            Self::DuplicateName { name } => write!(f, "{name}: the name is there twice"),
            Self::Alias { name, of } => write!(f, "{name}: stands for {of}, which is not there"),
            Self::AliasBytes { name } => {
                write!(f, "{name}: tensors under other names have more bytes than the record")
            }
            Self::Encoding { name, field, value } => {
                write!(f, "{name}: {value} is no {field}")
            }
            Self::TooManyAxes { name, rank } => {
                write!(f, "{name}: {rank} axes; {RANK_LIMIT} are the limit")
            }
            Self::Shape { name } => write!(f, "{name}: shape and scheme are no tensor"),
            Self::Section { name, kind, fault } => write!(f, "{name}: {kind}: {fault}"),
            Self::UnusedBytes { needed } => {
                write!(f, "the last section ends at {needed}, before the record does")
            }
            Self::Padding { at } => write!(f, "the padding at {at} is not zero"),
            Self::Code { name, row } => {
                write!(f, "{name}: row {row} has a code or padding that its scheme has not")
            }
            Self::Scale { name, group } => write!(f, "{name}: the scale of group {group}"),
            Self::Offset { name, group } => {
                write!(f, "{name}: the zero point or minimum of group {group}")
            }
        }
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Values => "values",
            Self::Scales => "scales",
            Self::Offsets => "zero points or minimums",
            Self::State => "state",
        })
    }
}

impl fmt::Display for SectionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset { expected, found } => write!(f, "start at {found}, not at {expected}"),
            Self::PastEnd { len } => write!(f, "{len} bytes, which end after the record"),
            Self::Length { expected, found } => write!(f, "{found} bytes in place of {expected}"),
            Self::Checksum { stored, computed } => {
                write!(f, "the checksum is {computed:#010x}, not {stored:#010x}")
            }
        }
    }
}

impl core::error::Error for RecordError<'_> {}
