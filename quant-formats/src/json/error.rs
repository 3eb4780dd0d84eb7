//! Why a file is not a JSON checkpoint.

use std::error::Error;
use std::fmt;

use quant::ParamId;
use quant::RecordError;
use quant::scheme::NameError;

/// A file is not a checkpoint in JSON.
#[derive(Debug)]
#[non_exhaustive]
pub enum JsonError {
    /// The file is not JSON, or has other fields than a checkpoint.
    Json {
        /// The parser's reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file has another format than `quant-json/1`.
    Format {
        /// The first 100 characters of the format that the file names.
        found: String,
    },
    /// Two tensors, states or keys of metadata have the same name.
    DuplicateName {
        /// The name.
        id: ParamId,
    },
    /// A tensor has neither values nor codes, or one that is not a number of its type.
    Value {
        /// The tensor.
        id: ParamId,
        /// The value.
        value: String,
    },
    /// A tensor's scheme has no valid name.
    Scheme {
        /// The tensor.
        id: ParamId,
        /// The reason.
        source: NameError,
    },
    /// The bytes of a state are not pairs of hexadecimal digits.
    Hex {
        /// The state.
        id: ParamId,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { .. } => f.write_str("not a checkpoint in JSON"),
            Self::Format { found } => {
                write!(f, "unknown format `{found}`; expected `{}`", super::FORMAT)
            }
            Self::DuplicateName { id } => write!(f, "{id}: duplicate name"),
            Self::Value { id, value } => write!(f, "{id}: invalid value `{value}`"),
            Self::Scheme { id, .. } => write!(f, "{id}: invalid scheme"),
            Self::Hex { id } => write!(f, "{id}: expected pairs of hexadecimal digits"),
        }
    }
}

impl Error for JsonError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Json { source } => Some(&**source),
            Self::Scheme { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<JsonError> for RecordError {
    fn from(error: JsonError) -> Self {
        Self::recorder(error)
    }
}
