//! The memory that a tensor takes on its way from one file to another.

use crate::entry::{Entry, Stored};

/// The memory for the values of a tensor in single precision, and for what they are computed from.
pub(crate) fn of_values(from: &Entry) -> u64 {
    let (floats, stored) = (from.float_bytes(), from.bytes);
    match from.stored {
        Stored::F32 => floats,
        Stored::F16 | Stored::Bf16 | Stored::Blocks(_) => floats.saturating_add(stored),
        // Codes, and scales in single precision.
        Stored::Quantized(_) => floats.saturating_add(2 * stored),
        Stored::PreQuantized(_) => floats.saturating_mul(2).saturating_add(stored),
    }
}

/// The memory of a tensor that is copied as it is: in the batch that is read, and in the one that is
/// written.
pub(crate) fn of_copy(from: &Entry) -> u64 {
    match from.stored {
        Stored::F32 | Stored::F16 | Stored::Bf16 | Stored::Blocks(_) => 2 * from.bytes,
        // The bytes of blocks, the tensor made of them, and the bytes of the blocks again. Codes of
        // another program are unpacked to one in a byte, which is more for narrow ones.
        Stored::Quantized(_) => {
            let unpacked = from.bytes.saturating_mul(3).saturating_add(from.element_count() as u64);
            unpacked.max(from.bytes.saturating_mul(5))
        }
        Stored::PreQuantized(_) => of_result(from, from.float_bytes()),
    }
}

/// The memory of a tensor that becomes another one of `len` bytes.
pub(crate) fn of_result(from: &Entry, len: u64) -> u64 {
    of_values(from).saturating_add(len.saturating_mul(2))
}
