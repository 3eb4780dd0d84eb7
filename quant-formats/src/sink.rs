//! What each format implements to be written.

use quant::RecordError;
use quant::Tensor;
use quant::record::RecordEntry;

/// A file that is being written in the order of its manifest: each tensor is begun, written part by
/// part, and ended, and then each state that the manifest declares without its bytes.
pub(crate) trait Sink {
    fn begin(&mut self, next: Next<'_>) -> Result<(), RecordError>;

    fn part(&mut self, part: Part<'_>) -> Result<(), RecordError>;

    fn end(&mut self) -> Result<(), RecordError>;

    /// Brings the file to the disk and gives it its name.
    fn finish(self: Box<Self>) -> Result<(), RecordError>;
}

/// The tensor or state that is written next.
#[derive(Clone, Copy)]
pub(crate) enum Next<'a> {
    Tensor(&'a RecordEntry),
    State { id: &'a str, len: u64 },
}

/// What follows in a tensor or state.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    /// Elements in row-major order, stored as all of the tensor; whole rows of codes.
    Tensor(&'a Tensor),
    /// Bytes of a state.
    Bytes(&'a [u8]),
}
