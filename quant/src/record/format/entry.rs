//! The entry of a tensor in a record, and states.

use core::fmt;

use super::section::section_lens;
use super::version::RecordVersion;
use crate::module::{ParamId, ParamView};
use crate::scheme::QuantizationScheme;
use crate::tensor::{FloatType, Tensor};

/// How the values of a tensor are stored: as floats, or quantized.
///
/// ```
/// use quant::record::Stored;
/// use quant::tensor::FloatType;
///
/// assert_eq!(Stored::from(None), Stored::Float(FloatType::F32));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stored {
    /// Floats of this type.
    Float(FloatType),
    /// Codes of this scheme, with scales and zero points.
    Quantized(QuantizationScheme),
}

impl Stored {
    /// How a parameter is stored.
    pub(crate) fn of(param: ParamView<'_>) -> Self {
        match param.quantized() {
            Some(tensor) => Self::Quantized(tensor.scheme()),
            None => Self::Float(param.float_type().unwrap_or_default()),
        }
    }

    /// The quantization scheme, or `None` for floats.
    pub fn scheme(self) -> Option<QuantizationScheme> {
        match self {
            Self::Float(_) => None,
            Self::Quantized(scheme) => Some(scheme),
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(ty) => ty.fmt(f),
            Self::Quantized(scheme) => scheme.fmt(f),
        }
    }
}

impl From<FloatType> for Stored {
    fn from(ty: FloatType) -> Self {
        Self::Float(ty)
    }
}

impl From<QuantizationScheme> for Stored {
    fn from(scheme: QuantizationScheme) -> Self {
        Self::Quantized(scheme)
    }
}

/// No scheme means float32.
impl From<Option<QuantizationScheme>> for Stored {
    fn from(scheme: Option<QuantizationScheme>) -> Self {
        scheme.map_or(Self::Float(FloatType::F32), Self::Quantized)
    }
}

/// Name and shape of a tensor in a record, and how its values are stored.
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
    /// How the values are stored.
    pub stored: Stored,
}

impl RecordEntry {
    /// The entry of a tensor with this path and shape; `stored` is a [`FloatType`], a scheme, or an
    /// optional scheme, of which `None` means float32.
    pub fn new(
        id: impl Into<ParamId>,
        shape: impl Into<Vec<usize>>,
        stored: impl Into<Stored>,
    ) -> Self {
        Self { id: id.into(), shape: shape.into(), stored: stored.into() }
    }

    /// The quantization scheme, or `None` for floats.
    pub fn scheme(&self) -> Option<QuantizationScheme> {
        self.stored.scheme()
    }

    /// The entry of `tensor` under the name `id`.
    pub fn of(id: impl Into<ParamId>, tensor: &Tensor) -> Self {
        Self::of_param(id, tensor.into())
    }

    /// The entry of a parameter under the name `id`.
    pub fn of_param(id: impl Into<ParamId>, param: ParamView<'_>) -> Self {
        Self::new(id, param.shape(), Stored::of(param))
    }

    /// The size of values, scales and zero points in bytes, without padding. In a record of version
    /// 1, codes of 3, 5, 6 and 7 bits take more.
    ///
    /// Returns `u64::MAX` if shape and scheme do not form a tensor; no valid record has such an entry.
    pub fn byte_count(&self) -> u64 {
        match section_lens(&self.shape, self.stored, RecordVersion::V2) {
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
