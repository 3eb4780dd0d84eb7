//! Why a job over a checkpoint fails.

use std::error::Error;
use std::fmt;
use std::io;

use quant::ParamId;
use quant::QuantizeError;
use quant::RecordError;
use quant::quantize::ByteSize;
use quant::quantize::mixed::MixedPrecisionError;

use crate::folder_error::FolderError;
use crate::ggml::GgufEncoding;
use crate::method::{Encoding, PreQuantized, Refusal};

/// A checkpoint cannot be planned, quantized or copied.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read or written.
    Record(RecordError),
    /// The checkpoint cannot be quantized as the planner decides.
    Quantize(QuantizeError),
    /// No choice of precisions fits the budget.
    Mixed(MixedPrecisionError),
    /// The planner decides to quantize nothing.
    NothingToQuantize {
        /// The number of tensors.
        tensors: usize,
        /// The number of tensors that are quantized already, by a scheme or in blocks of GGUF. Only
        /// [`Options::requantize`](crate::Options::requantize) quantizes them again.
        quantized: usize,
    },
    /// The planner quantizes tensors, but the rows of none consist of whole blocks.
    NoBlocks {
        /// The first of them.
        id: ParamId,
        /// The blocks.
        encoding: GgufEncoding,
    },
    /// Another program has quantized the checkpoint already.
    PreQuantized {
        /// The tensors that it has quantized.
        tensors: PreQuantized,
    },
    /// A tensor that another program has quantized cannot be read.
    Refused {
        /// The tensor.
        id: ParamId,
        /// How it is stored.
        encoding: Encoding,
        /// Why it cannot be read.
        refusal: Refusal,
    },
    /// A model directory cannot be written.
    Folder(FolderError),
    /// The checkpoint needs more memory than [`Options::max_memory`](crate::Options::max_memory).
    Memory {
        /// The tensor that needs most; `None` if states do.
        id: Option<ParamId>,
        /// The bytes that are enough for the whole checkpoint.
        needed: u64,
        /// The bytes that are allowed.
        limit: u64,
    },
    /// The job was cancelled, and nothing was written.
    Cancelled,
    /// The operating system cannot start threads.
    Threads {
        /// The reason.
        source: io::Error,
    },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => error.fmt(f),
            Self::Quantize(error) => error.fmt(f),
            Self::Mixed(error) => error.fmt(f),
            Self::NothingToQuantize { tensors, quantized }
                if quantized == tensors && *tensors > 0 =>
            {
                write!(f, "all {tensors} tensors are quantized already")
            }
            Self::NothingToQuantize { tensors, quantized } => {
                write!(f, "0 of {tensors} tensors would be quantized")?;
                match quantized {
                    0 => Ok(()),
                    quantized => write!(f, "; {quantized} are quantized already"),
                }
            }
            Self::Folder(error) => error.fmt(f),
            Self::NoBlocks { id, encoding } => {
                write!(
                    f,
                    "{id}: no tensor has rows of whole blocks of {encoding}, nor has this one"
                )
            }
            Self::PreQuantized { tensors } => write!(f, "is quantized already: {tensors}"),
            Self::Refused { id, encoding, refusal } => write!(f, "{id}: {encoding}: {refusal}"),
            Self::Memory { id, needed, limit } => {
                if let Some(id) = id {
                    write!(f, "{id}: ")?;
                }
                let (needed, limit) = (ByteSize(*needed), ByteSize(*limit));
                write!(f, "{limit} of memory are too few; {needed} are enough for the whole file")
            }
            Self::Cancelled => f.write_str("cancelled"),
            Self::Threads { .. } => f.write_str("cannot start threads"),
        }
    }
}

impl Error for CheckpointError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Record(error) => error.source(),
            Self::Quantize(error) => error.source(),
            Self::Mixed(error) => error.source(),
            Self::Folder(error) => error.source(),
            Self::Threads { source } => Some(source),
            Self::NothingToQuantize { .. }
            | Self::NoBlocks { .. }
            | Self::PreQuantized { .. }
            | Self::Refused { .. }
            | Self::Memory { .. }
            | Self::Cancelled => None,
        }
    }
}

impl From<RecordError> for CheckpointError {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl From<FolderError> for CheckpointError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl From<MixedPrecisionError> for CheckpointError {
    fn from(error: MixedPrecisionError) -> Self {
        Self::Mixed(error)
    }
}

impl From<QuantizeError> for CheckpointError {
    fn from(error: QuantizeError) -> Self {
        Self::Quantize(error)
    }
}
