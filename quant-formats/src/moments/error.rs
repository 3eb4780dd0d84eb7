//! Why a file has no second moments that can be used.

use std::error::Error;
use std::fmt;

use quant::moments::MomentsError;
use quant::{ParamId, RecordError};

/// A file is not one of second moments, or they are invalid.
///
/// Messages about a layer start with its name.
#[derive(Debug)]
#[non_exhaustive]
pub enum MomentsFileError {
    /// The file has neither second moments nor an importance matrix.
    Other,
    /// A later version of the layout.
    Version {
        /// The first 200 characters of the version.
        version: String,
    },
    /// The metadata of the file says nothing of a layer, or nothing that is understood.
    Description {
        /// The layer.
        id: ParamId,
        /// The first 200 characters of what the file says, if it does.
        description: Option<String>,
    },
    /// The sums of a layer have another type or shape than second moments have.
    Layout {
        /// The layer.
        id: ParamId,
        /// The type and shape.
        found: String,
    },
    /// An importance matrix has the sums of a weight without the number of rows, or the number without the
    /// sums.
    MissingTensor {
        /// The weight.
        id: ParamId,
        /// The tensor that is missing.
        tensor: String,
    },
    /// The sums of a layer are not those of second moments.
    Moments {
        /// The layer.
        id: ParamId,
        /// Why.
        source: MomentsError,
    },
    /// No layer has moments, so that there is nothing to write.
    Empty,
}

impl fmt::Display for MomentsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str(
                "the file has no second moments; `quant_formats::write_moments` and the tool imatrix of \
                 llama.cpp, with the format GGUF, write them",
            ),
            Self::Version { version } => {
                write!(f, "second moments of version `{version}`, and only 1 is known")
            }
            Self::Description { id, description: Some(description) } => {
                write!(f, "{id}: invalid description of second moments: `{description}`")
            }
            Self::Description { id, description: None } => {
                write!(f, "{id}: the metadata does not describe these second moments")
            }
            Self::Layout { id, found } => {
                write!(f, "{id}: second moments cannot be of type and shape {found}")
            }
            Self::MissingTensor { id, tensor } => write!(f, "{id}: `{tensor}` is missing"),
            Self::Moments { id, .. } => write!(f, "{id}: invalid second moments"),
            Self::Empty => f.write_str("there are no second moments to write"),
        }
    }
}

impl Error for MomentsFileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Moments { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<MomentsFileError> for RecordError {
    fn from(error: MomentsFileError) -> Self {
        Self::recorder(error)
    }
}
