//! Sections: their kinds, their places in the file, and the lengths that they must have.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::entry::Stored;
use super::version::RecordVersion;
use crate::scheme::{Groups, element_count, packing};
use crate::tensor::{TensorError, record_lens};

/// Sections start and end on multiples of 64 bytes, the size of a cache line and of the widest
/// vector register: a mapped section can be used in place and read in whole registers.
pub(crate) const ALIGNMENT: u64 = 64;

/// The kind of a section of a parameter or state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SectionKind {
    /// Floats, or packed codes.
    Values,
    /// Scales.
    Scales,
    /// Zero points.
    ZeroPoints,
    /// Minimums, in the place of zero points.
    Minimums,
    /// The bytes of a state.
    State,
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Values => "values",
            Self::Scales => "scales",
            Self::ZeroPoints => "zero points",
            Self::Minimums => "minimums",
            Self::State => "state",
        })
    }
}

/// The kinds of the three sections of a tensor, in the order of the file. The last one has minimums
/// where the mapping has them.
pub(crate) const TENSOR_SECTIONS: [SectionKind; 3] =
    [SectionKind::Values, SectionKind::Scales, SectionKind::ZeroPoints];

/// The kinds of the three sections of a tensor that is stored like this.
pub(crate) fn tensor_sections(stored: Stored) -> [SectionKind; 3] {
    let [values, scales, zero_points] = TENSOR_SECTIONS;
    match stored.scheme() {
        Some(scheme) if scheme.mapping().has_minimums() => [values, scales, SectionKind::Minimums],
        _ => [values, scales, zero_points],
    }
}

/// A section as the header describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc32: u32,
}

impl Section {
    /// The bytes that a section takes in a header.
    pub(super) const ENCODED_LEN: usize = 20;

    /// The end of the padding after the section, or `None` on overflow.
    pub(crate) fn padded_end(self) -> Option<u64> {
        self.offset.checked_add(self.len)?.checked_next_multiple_of(ALIGNMENT)
    }
}

/// A section of a record: a run of bytes that has a checksum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordSection {
    /// What the section holds.
    pub kind: SectionKind,
    /// The offset from the start of its file, in bytes.
    pub offset: u64,
    /// The length in bytes, without padding.
    pub len: u64,
    /// The CRC-32 that the header has for the section.
    pub crc32: u32,
}

impl RecordSection {
    pub(crate) fn new(kind: SectionKind, section: Section) -> Self {
        let Section { offset, len, crc32 } = section;
        Self { kind, offset, len, crc32 }
    }
}

/// The lengths in bytes of values, scales and zero points or minimums, or `None` on overflow.
pub(crate) fn section_lens(
    shape: &[usize],
    stored: Stored,
    version: RecordVersion,
) -> Result<Option<[u64; 3]>, TensorError> {
    let scheme = match stored {
        Stored::Quantized(scheme) => scheme,
        Stored::Float(ty) => {
            let values = element_count(shape).and_then(|count| count.checked_mul(ty.bytes()));
            return Ok(values.map(|values| [values as u64, 0, 0]));
        }
    };
    let groups = Groups::new(shape, scheme.granularity())?.count();
    let lens = || {
        let [mut codes, scales, offsets] = record_lens(shape, scheme, groups)?;
        if version == RecordVersion::V1 {
            codes = packing::packed_bytes(shape, scheme.quantization_type())?;
        }
        Some([codes, scales, offsets].map(|len| len as u64))
    };
    Ok(lens())
}
