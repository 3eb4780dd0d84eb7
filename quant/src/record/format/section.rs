//! Sections: what they are, where they lie and how long they must be.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::layout::ALIGNMENT;
use crate::scheme::{Groups, Mapping, QuantizationScheme, element_count, packing};
use crate::tensor::TensorError;

/// A section of a parameter or state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The floats, or the packed codes.
    Values,
    /// The scales.
    Scales,
    /// The zero points.
    ZeroPoints,
    /// A module's own bytes.
    State,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Values => "values",
            Self::Scales => "scales",
            Self::ZeroPoints => "zero points",
            Self::State => "state",
        })
    }
}

/// The order of [`TensorEntry::sections`].
pub(crate) const TENSOR_PARTS: [Part; 3] = [Part::Values, Part::Scales, Part::ZeroPoints];

/// A run of bytes after the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc32: u32,
}

impl Section {
    /// The bytes that a section takes in a header.
    pub(crate) const ENCODED_LEN: usize = 20;

    /// Where the padding after it ends, if that can be counted.
    pub(crate) fn padded_end(self) -> Option<u64> {
        self.offset.checked_add(self.len)?.checked_next_multiple_of(ALIGNMENT)
    }
}

/// A run of bytes in a record that has a checksum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordSection {
    /// What the bytes are.
    pub part: Part,
    /// Where they start, from the start of their file.
    pub offset: u64,
    /// How many there are, without padding.
    pub len: u64,
    /// Their CRC-32, as the header has it.
    pub crc32: u32,
}

impl RecordSection {
    pub(crate) fn new(part: Part, section: Section) -> Self {
        let Section { offset, len, crc32 } = section;
        Self { part, offset, len, crc32 }
    }
}

/// The bytes that values, scales and zero points take, or `None` if they cannot be counted.
pub(crate) fn section_lens(
    shape: &[usize],
    scheme: Option<QuantizationScheme>,
) -> Result<Option<[u64; 3]>, TensorError> {
    let Some(scheme) = scheme else {
        let values = element_count(shape).and_then(|count| bytes(count, size_of::<f32>()));
        return Ok(values.map(|values| [values, 0, 0]));
    };
    let groups = Groups::new(shape, scheme.granularity())?.count();
    let zero_points = match scheme.mapping() {
        Mapping::Symmetric => 0,
        Mapping::Affine => groups,
    };
    let codes = packing::packed_bytes(shape, scheme.quantization_type());
    let scales = bytes(groups, scheme.scale_type().bytes());
    Ok(codes.zip(scales).map(|(codes, scales)| [codes as u64, scales, zero_points as u64]))
}

fn bytes(count: usize, size: usize) -> Option<u64> {
    Some(count.checked_mul(size)? as u64)
}
