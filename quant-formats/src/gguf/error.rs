//! Why a file is not valid GGUF, or a checkpoint cannot be written as one.

use std::error::Error;
use std::fmt;

use quant::ParamId;
use quant::RecordError;

use crate::ggml::GgufType;

/// A file is not valid GGUF, or a checkpoint cannot be saved as GGUF.
///
/// Messages about a tensor start with its name, messages about metadata with the key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum GgufError {
    /// The file has the version 1, which counts differently, or one that this crate does not know.
    Version {
        /// The version in the file.
        version: u32,
    },
    /// The numbers of the file are big endian.
    BigEndian,
    /// The file ends before the end of its header.
    Truncated {
        /// The length of the file in bytes.
        len: u64,
        /// The least length that the header requires.
        expected: u64,
    },
    /// The header claims more pairs, tensors or elements of an array than the file has room for.
    Count {
        /// The number.
        count: u64,
        /// The bytes that remain for them.
        available: u64,
    },
    /// The header is longer than this crate accepts.
    HeaderTooLong {
        /// The greatest length that is accepted.
        limit: u64,
    },
    /// A key, or the name of a tensor, is not UTF-8.
    NotUtf8 {
        /// The offset of the text in the file.
        offset: u64,
    },
    /// Two pairs have the same key.
    DuplicateKey {
        /// The first 200 characters of the key.
        key: String,
    },
    /// A value has a type that the format does not define.
    ValueType {
        /// The first 200 characters of the key.
        key: String,
        /// The number of the type.
        ty: u32,
    },
    /// Arrays in arrays are nested more deeply than this crate accepts.
    Nesting {
        /// The first 200 characters of the key.
        key: String,
        /// The greatest depth that is accepted.
        limit: usize,
    },
    /// The alignment of tensors is not a power of two of the type u32.
    Alignment {
        /// The value, unless it has another type.
        alignment: Option<u32>,
    },
    /// Two tensors have the same name.
    DuplicateName {
        /// The name.
        id: ParamId,
    },
    /// A tensor has more than four axes.
    Rank {
        /// The tensor.
        id: ParamId,
        /// The number of its axes.
        rank: u64,
    },
    /// A tensor has a type that was withdrawn from the format, or that is unknown.
    Type {
        /// The tensor.
        id: ParamId,
        /// The number of the type.
        ty: u32,
        /// The name, if the type was withdrawn.
        name: Option<&'static str>,
    },
    /// The elements or bytes of a tensor cannot be counted.
    Shape {
        /// The tensor.
        id: ParamId,
        /// The extent of each axis, outermost first.
        shape: Vec<u64>,
    },
    /// A row of a tensor does not consist of whole blocks.
    Row {
        /// The tensor.
        id: ParamId,
        /// The extent of the last axis.
        row: usize,
        /// The type, whose blocks do not divide it.
        ty: GgufType,
    },
    /// A tensor starts at an offset that is not a multiple of the alignment.
    Unaligned {
        /// The tensor.
        id: ParamId,
        /// The offset from the first tensor.
        offset: u64,
        /// The alignment.
        alignment: u64,
    },
    /// A tensor starts before the end of another one.
    Overlap {
        /// The tensor that comes second.
        id: ParamId,
        /// The offset of its first byte from the first tensor.
        offset: u64,
        /// The offset at which the other one ends.
        expected: u64,
    },
    /// A tensor ends after the end of the file.
    PastEnd {
        /// The tensor.
        id: ParamId,
        /// The offset of its first byte from the first tensor.
        offset: u64,
        /// The bytes of the tensor.
        len: u64,
        /// The bytes of the file after its header.
        available: u64,
    },
    /// A file is one of several, and not named as llama.cpp names those.
    SplitName {
        /// The number of files.
        count: u64,
    },
    /// A file does not belong to the others, because it is one of another number of files.
    SplitCount {
        /// The number of files that it says.
        found: u64,
        /// The number of files that the others say.
        expected: u64,
    },
    /// The state with the header of a GGUF file does not end where the header ends.
    HeaderState {
        /// The bytes of the state.
        len: u64,
        /// The bytes of the header.
        expected: u64,
    },
    /// The name of a tensor is longer than engines accept.
    NameTooLong {
        /// The tensor.
        id: ParamId,
        /// The greatest length that is accepted, in bytes.
        limit: usize,
    },
    /// The format has no type for the values of a tensor, or for a state.
    NoType {
        /// The tensor or state.
        id: ParamId,
        /// How it is stored: a scheme, or the kind of the state.
        stored: String,
    },
    /// A value cannot be quantized to blocks: it is not finite, or it makes the scale of its block
    /// infinite in half precision.
    Value {
        /// The tensor.
        id: ParamId,
        /// The position of the value.
        index: usize,
        /// The value.
        value: f32,
        /// The type of the blocks.
        ty: GgufType,
    },
    /// A key that had a typed value has a text that is not a value of this type.
    Metadata {
        /// The first 200 characters of the key.
        key: String,
        /// The name of the type.
        ty: &'static str,
    },
}

impl fmt::Display for GgufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { version } => {
                write!(f, "GGUF version {version}; the versions 2 and 3 can be read")
            }
            Self::BigEndian => f.write_str("a big-endian GGUF file; only little endian is read"),
            Self::Truncated { len, expected } => {
                write!(f, "truncated: the file has {len} bytes of at least {expected}")
            }
            Self::Count { count, available } => {
                write!(f, "the header claims {count} items, but {available} bytes follow")
            }
            Self::HeaderTooLong { limit } => {
                write!(f, "the header has more bytes than the limit of {limit}")
            }
            Self::NotUtf8 { offset } => write!(f, "the name at byte {offset} is not UTF-8"),
            Self::DuplicateKey { key } => write!(f, "{key}: duplicate key"),
            Self::ValueType { key, ty } => write!(f, "{key}: unknown type {ty} of a value"),
            Self::Nesting { key, limit } => {
                write!(f, "{key}: arrays are nested more than {limit} deep")
            }
            Self::Alignment { alignment: Some(alignment) } => {
                write!(f, "general.alignment: {alignment} is not a power of two")
            }
            Self::Alignment { alignment: None } => f.write_str("general.alignment: not a u32"),
            Self::DuplicateName { id } => write!(f, "{id}: duplicate name"),
            Self::Rank { id, rank } => {
                write!(f, "{id}: {rank} axes, more than the four that GGUF allows")
            }
            Self::Type { id, ty, name: Some(name) } => {
                write!(f, "{id}: the type {name} ({ty}) is not a type of files any more")
            }
            Self::Type { id, ty, name: None } => write!(f, "{id}: unknown type {ty}"),
            Self::Shape { id, shape } => write!(f, "{id}: shape {shape:?} is too large"),
            Self::Row { id, row, ty } => {
                let len = ty.block_len();
                write!(f, "{id}: rows of {row} values do not consist of {ty} blocks of {len}")
            }
            Self::Unaligned { id, offset, alignment } => {
                write!(f, "{id}: the offset {offset} is not a multiple of {alignment}")
            }
            Self::Overlap { id, offset, expected } => write!(
                f,
                "{id}: starts at byte {offset}, before the end of another tensor at {expected}"
            ),
            Self::PastEnd { id, offset, len, available } => {
                write!(
                    f,
                    "{id}: {len} bytes from byte {offset} on, but {available} follow the header"
                )
            }
            Self::SplitName { count } => {
                write!(f, "one of {count} files, but not named `…-00001-of-{count:05}.gguf`")
            }
            Self::SplitCount { found, expected } => {
                write!(f, "one of {found} files, but the others are of {expected}")
            }
            Self::HeaderState { len, expected } => {
                write!(f, "gguf.header: a header of {expected} bytes in a state of {len} bytes")
            }
            Self::NameTooLong { id, limit } => {
                write!(f, "{id}: a name in GGUF has at most {limit} bytes")
            }
            Self::NoType { id, stored } => {
                write!(f, "{id}: GGUF has no type for {stored}")
            }
            Self::Value { id, index, value, ty } => {
                write!(f, "{id}: {ty} cannot hold the value {value} of element {index}")
            }
            Self::Metadata { key, ty } => write!(f, "{key}: the value is not a valid {ty}"),
        }
    }
}

impl Error for GgufError {}

impl From<GgufError> for RecordError {
    fn from(error: GgufError) -> Self {
        Self::recorder(error)
    }
}
