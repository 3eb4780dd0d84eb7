//! The entry of a tensor in a record, and states.

use super::section::section_lens;
use crate::module::{ParamId, ParamView};
use crate::scheme::QuantizationScheme;
use crate::tensor::{QuantizedTensor, Tensor};

/// Name, shape and scheme of a tensor in a record.
///
/// ```
/// use quant::record::RecordEntry;
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
    /// The extent of each axis, outermost first.
    pub shape: Vec<usize>,
    /// The quantization scheme, or `None` for float32.
    pub scheme: Option<QuantizationScheme>,
}

impl RecordEntry {
    /// The entry of a tensor with this path, shape and scheme; no scheme means float32.
    pub fn new(
        id: impl Into<ParamId>,
        shape: impl Into<Vec<usize>>,
        scheme: Option<QuantizationScheme>,
    ) -> Self {
        Self { id: id.into(), shape: shape.into(), scheme }
    }

    /// The entry of `tensor` under the name `id`.
    pub fn of(id: impl Into<ParamId>, tensor: &Tensor) -> Self {
        Self::of_param(id, tensor.into())
    }

    /// The entry of a parameter under the name `id`.
    pub fn of_param(id: impl Into<ParamId>, param: ParamView<'_>) -> Self {
        Self::new(id, param.shape(), param.quantized().map(QuantizedTensor::scheme))
    }

    /// The size of values, scales and zero points in bytes, without padding.
    ///
    /// Returns `u64::MAX` if shape and scheme do not form a tensor; no valid record has such an entry.
    pub fn byte_count(&self) -> u64 {
        match section_lens(&self.shape, self.scheme) {
            Ok(Some(lens)) => lens.into_iter().fold(0, u64::saturating_add),
            _ => u64::MAX,
        }
    }
}

/// State that a module keeps besides its parameters, in a format of the module's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordState {
    /// The path of the module.
    pub id: ParamId,
    /// The name of the format of `data`, such as `histogram/1`.
    pub kind: String,
    /// The encoded state.
    pub data: Vec<u8>,
}
