//! What can be wrong with a JSON checkpoint.

use core::fmt;
use std::error::Error;

use quant::module::ParamId;
use quant::record::RecordError;

/// A file is not a checkpoint in JSON.
#[derive(Debug)]
#[non_exhaustive]
pub enum JsonError {
    /// It is not JSON, or has not the fields that it should have.
    Json {
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// Its format is another one.
    Format {
        /// What it says.
        found: String,
    },
    /// Two tensors, states or pairs have one name.
    DuplicateName {
        /// The name.
        id: ParamId,
    },
    /// A value is not one of a tensor's.
    Value {
        /// The tensor.
        id: ParamId,
        /// The value.
        value: String,
    },
    /// The name of a tensor's scheme is not one.
    Scheme {
        /// The tensor.
        id: ParamId,
        /// What is wrong.
        source: quant::scheme::NameError,
    },
    /// The bytes of a state are not written in pairs of hexadecimal digits.
    Hex {
        /// The state.
        id: ParamId,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { source } => write!(f, "not a checkpoint in JSON: {source}"),
            Self::Format { found } => {
                write!(f, "the format is `{found}`, and `{}` is read", super::FORMAT)
            }
            Self::DuplicateName { id } => write!(f, "{id}: the name is there twice"),
            Self::Value { id, value } => write!(f, "{id}: `{value}` is no value of it"),
            Self::Scheme { id, source } => write!(f, "{id}: {source}"),
            Self::Hex { id } => write!(f, "{id}: the bytes are not pairs of hexadecimal digits"),
        }
    }
}

impl Error for JsonError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Json { source } => Some(source),
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
