//! What can be wrong with a safetensors file.

use core::fmt;
use std::error::Error;

use quant::module::ParamId;
use quant::record::RecordError;
use quant::scheme::NameError;

/// A file is not a safetensors file, or cannot become one.
///
/// Where it concerns one tensor, its name comes first.
#[derive(Debug)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The header is longer than any that is read.
    HeaderTooLong {
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// The file ends within its header, or before it.
    Truncated {
        /// The file's length.
        len: u64,
        /// The length that it needs to have, as far as that could be read.
        expected: u64,
    },
    /// The header is not the JSON that it should be.
    Json {
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// Two tensors have one name.
    DuplicateName {
        /// The name.
        id: ParamId,
    },
    /// The type of a tensor's elements is not one of the format.
    UnknownDtype {
        /// The tensor.
        id: ParamId,
        /// The type's name.
        dtype: String,
    },
    /// A tensor's elements cannot be counted, or do not fill whole bytes.
    Shape {
        /// The tensor.
        id: ParamId,
        /// The shape.
        shape: Vec<u64>,
    },
    /// A tensor has not the bytes that its shape and type ask for.
    Size {
        /// The tensor.
        id: ParamId,
        /// The bytes that are needed.
        expected: u64,
        /// Its offsets in the header.
        offsets: [u64; 2],
    },
    /// A tensor's bytes do not start where those before it end.
    Offset {
        /// The tensor.
        id: ParamId,
        /// Where they start.
        offset: u64,
        /// Where they should start.
        expected: u64,
    },
    /// The tensors do not end where the file does.
    FileLen {
        /// The bytes after the header.
        found: u64,
        /// The bytes of all tensors.
        expected: u64,
    },
    /// A quantized tensor lacks the tensor of its codes, scales or zero points.
    MissingTensor {
        /// The quantized tensor.
        id: ParamId,
        /// The name of what is missing.
        part: String,
    },
    /// An index has a tensor in a file that does not have it.
    MissingPart {
        /// The tensor.
        id: ParamId,
        /// The file.
        part: String,
    },
    /// An index names a part that is no file beside it.
    PartName {
        /// The name.
        name: String,
    },
    /// A part has a tensor that the index does not have there.
    Unlisted {
        /// The tensor.
        id: ParamId,
        /// The part.
        part: String,
    },
    /// Codes, scales or zero points have another type or shape than the scheme asks for.
    Layout {
        /// The tensor.
        id: ParamId,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// What the file says about how a tensor is quantized cannot be understood.
    Description {
        /// The tensor.
        id: ParamId,
        /// The description.
        description: String,
        /// What is wrong with the scheme's name, if that is it.
        source: Option<NameError>,
    },
    /// A key of the metadata is one that describes quantized tensors.
    ReservedKey {
        /// The key.
        key: String,
    },
}

impl fmt::Display for SafetensorsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderTooLong { len, limit } => {
                write!(f, "not safetensors: the header has {len} bytes, and the limit is {limit}")
            }
            Self::Truncated { len, expected } => {
                write!(f, "truncated: the file has {len} bytes of at least {expected}")
            }
            Self::Json { source } => write!(f, "the header cannot be read: {source}"),
            Self::DuplicateName { id } => write!(f, "{id}: the name is there twice"),
            Self::UnknownDtype { id, dtype } => {
                write!(f, "{id}: `{dtype}` is no type of safetensors")
            }
            Self::Shape { id, shape } => {
                write!(f, "{id}: the elements of shape {shape:?} cannot be counted in whole bytes")
            }
            Self::Size { id, expected, offsets: [start, end] } => {
                write!(f, "{id}: takes {expected} bytes, but lies from byte {start} to {end}")
            }
            Self::Offset { id, offset, expected } => {
                write!(f, "{id}: starts at byte {offset}, and what is before it ends at {expected}")
            }
            Self::FileLen { found, expected } => {
                write!(f, "the tensors take {expected} bytes, but {found} follow the header")
            }
            Self::MissingPart { id, part } => write!(f, "{id}: is not in `{part}`"),
            Self::MissingTensor { id, part } => {
                write!(f, "{id}: is quantized, but there is no `{part}`")
            }
            Self::PartName { name } => write!(f, "the index names `{name}`, no file beside it"),
            Self::Unlisted { id, part } => {
                write!(f, "{id}: is in `{part}`, but the index does not say so")
            }
            Self::Layout { id, expected, found } => {
                write!(f, "{id}: should be {expected}, and is {found}")
            }
            Self::Description { id, description, source: None } => {
                write!(f, "{id}: `{description}` does not say how it is quantized")
            }
            Self::Description { id, description, source: Some(source) } => {
                write!(f, "{id}: `{description}` does not say how it is quantized: {source}")
            }
            Self::ReservedKey { key } => {
                write!(f, "metadata `{key}`: keys that start with `quant.` describe tensors")
            }
        }
    }
}

impl Error for SafetensorsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Json { source } => Some(source),
            Self::Description { source: Some(source), .. } => Some(source),
            _ => None,
        }
    }
}

impl From<SafetensorsError> for RecordError {
    fn from(error: SafetensorsError) -> Self {
        Self::recorder(error)
    }
}
