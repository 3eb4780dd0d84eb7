//! Why a model directory cannot be written.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use quant::{ParamId, QuantizationScheme};

/// A model directory cannot be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum FolderError {
    /// The directory has files in it, and no job that could be resumed.
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds the beginning of another job.
    OtherJob {
        /// The directory.
        path: PathBuf,
    },
    /// compressed-tensors cannot hold a tensor in this scheme.
    Scheme {
        /// The tensor.
        id: ParamId,
        /// The scheme.
        scheme: QuantizationScheme,
        /// What it would have to be.
        expected: &'static str,
    },
    /// A tensor is quantized, and not a matrix whose name ends with `.weight`.
    NotLinear {
        /// The tensor.
        id: ParamId,
        /// The extent of each axis.
        shape: Vec<usize>,
    },
    /// A tensor is in blocks of GGUF, which have no place in a model directory.
    Blocks {
        /// The tensor.
        id: ParamId,
    },
    /// A state of a module has no place in a model directory.
    State {
        /// The state.
        id: ParamId,
    },
    /// `config.json` is not a JSON object.
    Config {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty { path } => {
                write!(f, "{}: the directory is not empty", path.display())
            }
            Self::OtherJob { path } => {
                write!(f, "{}: the directory holds the beginning of another job", path.display())
            }
            Self::Scheme { id, scheme, expected } => {
                write!(f, "{id}: compressed-tensors cannot hold {scheme}: {expected}")
            }
            Self::NotLinear { id, shape } => write!(
                f,
                "{id}: is quantized with shape {shape:?}; compressed-tensors holds matrices whose \
                 names end with `.weight`"
            ),
            Self::Blocks { id } => {
                write!(f, "{id}: blocks of GGUF have no place in a model directory")
            }
            Self::State { id } => {
                write!(f, "{id}: a state of a module has no place in a model directory")
            }
            Self::Config { path, .. } => write!(f, "{}: not a JSON object", path.display()),
        }
    }
}

impl Error for FolderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Config { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
