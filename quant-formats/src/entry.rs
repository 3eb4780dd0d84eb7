//! What a checkpoint says about its tensors and states, without their values.

use std::fmt;

use quant::__private::element_count;
use quant::ParamId;
use quant::QuantizationScheme;
use quant::record::{self, RecordEntry, RecordState};
use quant::tensor::FloatType;

use crate::ggml::GgufType;
use crate::method::Encoding;

/// A tensor of a checkpoint, without its values.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The name, unique within the checkpoint.
    pub id: ParamId,
    /// The extent of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// How the values are stored.
    pub stored: Stored,
    /// The bytes of values, scales and zero points in the file, without padding.
    pub bytes: u64,
    /// The type in a GGUF file, and that of [blocks](Stored::Blocks); `None` in other files.
    pub gguf_type: Option<GgufType>,
}

impl Entry {
    pub(crate) fn new(id: ParamId, shape: Vec<usize>, stored: Stored, bytes: u64) -> Self {
        let gguf_type = match stored {
            Stored::Blocks(ty) => Some(ty),
            _ => None,
        };
        Self { id, shape, stored, bytes, gguf_type }
    }

    /// The entry of a tensor that is stored as in a record.
    pub(crate) fn of_record(entry: RecordEntry) -> Self {
        let bytes = entry.byte_count();
        let RecordEntry { id, shape, stored, .. } = entry;
        Self::new(id, shape, stored.into(), bytes)
    }

    /// The product of the shape's extents.
    pub fn element_count(&self) -> usize {
        // Checked when the entry was made.
        element_count(&self.shape).unwrap_or(usize::MAX)
    }

    /// The bytes of all values in single precision.
    pub(crate) fn float_bytes(&self) -> u64 {
        4 * self.element_count() as u64
    }

    /// The quantization scheme; `None` for a float tensor, and for blocks of a GGUF file.
    pub fn scheme(&self) -> Option<QuantizationScheme> {
        match self.stored {
            Stored::Quantized(scheme) => Some(scheme),
            Stored::F32
            | Stored::F16
            | Stored::Bf16
            | Stored::Blocks(_)
            | Stored::PreQuantized(_) => None,
        }
    }

    /// Whether the values are quantized, by a scheme or in blocks.
    pub(crate) fn is_quantized(&self) -> bool {
        matches!(self.stored, Stored::Quantized(_) | Stored::Blocks(_))
    }

    /// The entry of the same tensor in another file.
    pub(crate) fn to_record(&self) -> RecordEntry {
        self.stored_as(self.stored.in_record())
    }

    /// The entry of the tensor in another file, stored like this.
    pub(crate) fn stored_as(&self, stored: impl Into<record::Stored>) -> RecordEntry {
        RecordEntry::new(self.id.clone(), self.shape.clone(), stored)
    }
}

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stored {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Codes with scales and zero points.
    Quantized(QuantizationScheme),
    /// Blocks of a GGUF file, which no scheme describes; converted to single precision when read,
    /// and otherwise copied unchanged.
    Blocks(GgufType),
    /// As another program has quantized it, in a way that no scheme describes; converted to single
    /// precision when read.
    PreQuantized(Encoding),
}

impl Stored {
    /// How a record stores the tensor.
    pub(crate) fn in_record(self) -> record::Stored {
        match self {
            Self::F32 => FloatType::F32.into(),
            Self::F16 => FloatType::F16.into(),
            Self::Bf16 => FloatType::Bf16.into(),
            Self::Quantized(scheme) => scheme.into(),
            Self::Blocks(_) | Self::PreQuantized(_) => FloatType::F32.into(),
        }
    }
}

impl From<record::Stored> for Stored {
    fn from(stored: record::Stored) -> Self {
        match stored {
            record::Stored::Float(FloatType::F16) => Self::F16,
            record::Stored::Float(FloatType::Bf16) => Self::Bf16,
            record::Stored::Quantized(scheme) => Self::Quantized(scheme),
            // `quant` is pinned to this version, in which what is left is single precision.
            _ => Self::F32,
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.pad("f32"),
            Self::F16 => f.pad("f16"),
            Self::Bf16 => f.pad("bf16"),
            Self::Quantized(scheme) => f.pad(&scheme.to_string()),
            Self::Blocks(ty) => ty.fmt(f),
            Self::PreQuantized(encoding) => encoding.fmt(f),
        }
    }
}

/// A state of a checkpoint, without its bytes: of a module, or a foreign tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateEntry {
    /// The name, unique among states.
    pub id: ParamId,
    /// The format of the bytes; `tensor/I64 [1, 512]` for a foreign tensor.
    pub kind: String,
    /// The number of bytes.
    pub bytes: u64,
}

impl StateEntry {
    pub(crate) fn new(id: ParamId, kind: String, bytes: u64) -> Self {
        Self { id, kind, bytes }
    }

    pub(crate) fn of(state: &RecordState) -> Self {
        Self::new(state.id.clone(), state.kind.clone(), state.data.len() as u64)
    }
}
