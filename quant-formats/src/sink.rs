//! What each format implements to be written.

use quant::RecordError;
use quant::Tensor;

/// A file that is being written in the order of its manifest.
pub(crate) trait Sink {
    fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError>;

    /// Writes the next state that the manifest declares without its bytes, after the last tensor.
    fn write_state(&mut self, id: &str, data: &[u8]) -> Result<(), RecordError>;

    /// Brings the file to the disk and gives it its name.
    fn finish(self: Box<Self>) -> Result<(), RecordError>;
}
