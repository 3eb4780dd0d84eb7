//! How a checkpoint is rewritten.

use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::CheckpointError;

/// Limits of a job over a checkpoint, and its connection to a user interface.
///
/// ```
/// use quant_formats::Options;
///
/// let mut options = Options::default();
/// options.max_memory = Some(256_000_000);
/// ```
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct Options<'a> {
    /// The number of threads, at most 4 for each CPU; one for each CPU by default. Without the
    /// feature `rayon` there is one thread.
    pub jobs: Option<NonZero<usize>>,
    /// The memory of the process in bytes, at most; by default 512 MiB of tensors. Larger tensors are
    /// processed in pieces of rows, if each group of values with a scale lies within a row or a channel
    /// of the first axis.
    pub max_memory: Option<u64>,
    /// Writes a record as shards of at most this many bytes; one file by default.
    pub max_shard_size: Option<u64>,
    /// Quantizes tensors that are quantized already, from the floats that they stand for. By default
    /// they are copied unchanged, and those that another program has quantized are an error.
    pub requantize: bool,
    /// Called after each piece of a tensor with the position of the tensor, and the bytes of the
    /// piece in single precision.
    pub progress: Option<&'a (dyn Fn(usize, u64) + Sync)>,
    /// Once this is true, the job fails with [`CheckpointError::Cancelled`] and writes nothing.
    pub cancelled: Option<&'a AtomicBool>,
}

impl Options<'_> {
    /// Fails if the job has been cancelled.
    pub(crate) fn check(&self) -> Result<(), CheckpointError> {
        match self.cancelled {
            Some(cancelled) if cancelled.load(Ordering::Relaxed) => Err(CheckpointError::Cancelled),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, max_memory, max_shard_size, requantize, .. } = self;
        f.debug_struct("Options")
            .field("jobs", jobs)
            .field("max_memory", max_memory)
            .field("max_shard_size", max_shard_size)
            .field("requantize", requantize)
            .finish_non_exhaustive()
    }
}
