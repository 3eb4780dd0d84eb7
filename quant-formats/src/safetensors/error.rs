//! Why a file is not valid safetensors.

use std::error::Error;
use std::fmt;

use quant::ParamId;
use quant::RecordError;
use quant::scheme::NameError;

/// A file is not valid safetensors, or a model cannot be saved as safetensors.
///
/// Messages about a tensor start with its name.
#[derive(Debug)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The header is longer than readers accept.
    HeaderTooLong {
        /// The length of the header's JSON in bytes.
        len: u64,
        /// The greatest length that is accepted.
        limit: u64,
    },
    /// The file ends before the end of its header.
    Truncated {
        /// The length of the file in bytes.
        len: u64,
        /// The least length that the header requires.
        expected: u64,
    },
    /// The header, or an index, is not valid JSON of its kind.
    Json {
        /// The parser's reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Two tensors have the same name.
    DuplicateName {
        /// The name.
        id: ParamId,
    },
    /// The name of a tensor is reserved for metadata.
    ReservedName {
        /// The name.
        id: ParamId,
    },
    /// A tensor has an element type that the format does not define.
    UnknownDtype {
        /// The tensor.
        id: ParamId,
        /// The name of the type.
        dtype: String,
    },
    /// The elements of a tensor cannot be counted, or do not fill whole bytes.
    Shape {
        /// The tensor.
        id: ParamId,
        /// The extent of each axis.
        shape: Vec<u64>,
    },
    /// The offsets of a tensor do not match its shape and type.
    Size {
        /// The tensor.
        id: ParamId,
        /// The bytes that shape and type require.
        expected: u64,
        /// The offsets of its first byte and of the byte after its last.
        offsets: [u64; 2],
    },
    /// There is a gap between two tensors, or they overlap.
    Offset {
        /// The tensor that comes second.
        id: ParamId,
        /// The offset of its first byte.
        offset: u64,
        /// The offset at which the tensor before it ends.
        expected: u64,
    },
    /// The tensors do not end where the file ends.
    FileLen {
        /// The bytes after the header.
        found: u64,
        /// The bytes of all tensors.
        expected: u64,
    },
    /// The scales, zero points or codes of a quantized tensor are missing.
    MissingComponent {
        /// The quantized tensor.
        id: ParamId,
        /// The name of the missing tensor.
        component: String,
    },
    /// The shard that an index names for a tensor does not have it.
    NotInShard {
        /// The tensor.
        id: ParamId,
        /// The shard.
        shard: String,
    },
    /// An index names a shard that is not a file in its own directory.
    ShardName {
        /// The first 200 characters of the name.
        name: String,
    },
    /// A shard has a tensor that the index does not list there.
    Unlisted {
        /// The tensor.
        id: ParamId,
        /// The shard.
        shard: String,
    },
    /// Codes, scales or zero points have another type or shape than the scheme requires.
    Layout {
        /// The tensor.
        id: ParamId,
        /// The type and shape that the scheme requires.
        expected: String,
        /// The type and shape in the file.
        found: String,
    },
    /// The description of a quantized tensor in the metadata is invalid.
    Description {
        /// The tensor.
        id: ParamId,
        /// The first 200 characters of the description.
        description: String,
        /// Why its first word is not a scheme, if it is not.
        source: Option<NameError>,
    },
}

impl fmt::Display for SafetensorsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderTooLong { len, limit } => {
                write!(f, "the header has {len} bytes, more than the limit of {limit}")
            }
            Self::Truncated { len, expected } => {
                write!(f, "truncated: the file has {len} bytes of at least {expected}")
            }
            Self::Json { .. } => f.write_str("the header is not valid JSON"),
            Self::DuplicateName { id } => write!(f, "{id}: duplicate name"),
            Self::ReservedName { id } => {
                write!(f, "{id}: safetensors reserves this name for metadata")
            }
            Self::UnknownDtype { id, dtype } => write!(f, "{id}: unknown type `{dtype}`"),
            Self::Shape { id, shape } => {
                write!(f, "{id}: shape {shape:?} has no size in whole bytes")
            }
            Self::Size { id, expected, offsets: [start, end] } => {
                write!(f, "{id}: needs {expected} bytes, but its offsets are {start} and {end}")
            }
            Self::Offset { id, offset, expected } => {
                write!(
                    f,
                    "{id}: starts at byte {offset} after a tensor that ends at byte {expected}"
                )
            }
            Self::FileLen { found, expected } => {
                write!(f, "the tensors need {expected} bytes, but {found} follow the header")
            }
            Self::NotInShard { id, shard } => {
                write!(f, "{id}: missing in `{shard}`, where the index lists it")
            }
            Self::MissingComponent { id, component } => {
                write!(f, "{id}: `{component}` is missing, which this quantized tensor needs")
            }
            Self::ShardName { name } => {
                write!(f, "the index names `{name}`, which is not a file beside it")
            }
            Self::Unlisted { id, shard } => {
                write!(f, "{id}: the index does not list this tensor of `{shard}`")
            }
            Self::Layout { id, expected, found } => {
                write!(f, "{id}: expected {expected}, found {found}")
            }
            Self::Description { id, description, .. } => {
                write!(f, "{id}: invalid description of a quantized tensor: `{description}`")
            }
        }
    }
}

impl Error for SafetensorsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Json { source } => Some(&**source),
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
