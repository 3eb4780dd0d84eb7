//! What a record says about its tensors, and the states that it keeps beside them.

use super::section::section_lens;
use crate::module::{ParamId, ParamView};
use crate::scheme::QuantizationScheme;
use crate::tensor::{QuantizedTensor, Tensor};

/// What a record says about a tensor.
///
/// ```
/// use quant::RecordEntry;
///
/// let float = RecordEntry::new("layers.0.weight", [64, 32], None);
/// assert_eq!(float.byte_count(), 64 * 32 * 4);
/// let int4 = RecordEntry::new("layers.0.weight", [64, 32], "per-channel-symmetric-int4".parse().ok());
/// assert_eq!(int4.byte_count(), 64 * 32 / 2 + 64 * 4);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecordEntry {
    /// The parameter's path.
    pub id: ParamId,
    /// The extent of each axis.
    pub shape: Vec<usize>,
    /// How it is quantized, or `None` for float32.
    pub scheme: Option<QuantizationScheme>,
}

impl RecordEntry {
    /// The entry of a tensor with this path and shape, quantized so, or float32.
    pub fn new(
        id: impl Into<ParamId>,
        shape: impl Into<Vec<usize>>,
        scheme: Option<QuantizationScheme>,
    ) -> Self {
        Self { id: id.into(), shape: shape.into(), scheme }
    }

    /// The entry of this tensor.
    pub fn of(id: impl Into<ParamId>, tensor: &Tensor) -> Self {
        Self::of_param(id, tensor.into())
    }

    /// The entry of this parameter.
    pub(crate) fn of_param(id: impl Into<ParamId>, param: ParamView<'_>) -> Self {
        Self::new(id, param.shape(), param.quantized().map(QuantizedTensor::scheme))
    }

    /// The bytes of values, scales and zero points, without padding.
    ///
    /// `u64::MAX` for a shape and scheme that make no tensor, which no record has.
    pub fn byte_count(&self) -> u64 {
        match section_lens(&self.shape, self.scheme) {
            Ok(Some(lens)) => lens.into_iter().fold(0, u64::saturating_add),
            _ => u64::MAX,
        }
    }
}

/// What a module keeps besides parameters, in bytes that it alone understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The module's path.
    pub id: ParamId,
    /// The name of the bytes' format, such as `histogram/1`.
    pub kind: String,
    /// The bytes.
    pub data: Vec<u8>,
}
