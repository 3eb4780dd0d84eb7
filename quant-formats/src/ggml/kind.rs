//! Tensors of these types as states, which is how they travel through other formats.
//!
//! A tensor that no scheme describes is a state whose kind is its type and shape, `tensor/Q4_K [64,
//! 256]`, and whose bytes are those of the file that it comes from.

use super::types::{Content, GgufType};

/// The prefix of the kind of a state that is a tensor of a foreign type.
const TENSOR: &str = "tensor/";

/// The kind of a state that is a tensor.
pub(crate) fn kind_of_tensor(ty: GgufType, shape: &[usize]) -> String {
    format!("{TENSOR}{ty} {shape:?}")
}

/// Type and shape of a state that is a tensor of `len` bytes.
pub(crate) fn tensor_of_kind(kind: &str, len: u64) -> Option<(GgufType, Vec<usize>)> {
    let (ty, shape) = kind.strip_prefix(TENSOR)?.split_once(' ')?;
    let ty = GgufType::of_name(ty)?;
    // A state of floats is not a parameter, and does not become one.
    if matches!(ty.content(), Content::Floats(_)) {
        return None;
    }
    let shape: Vec<usize> = serde_json::from_str(shape).ok()?;
    let matches = ty.divides_row(&shape) && ty.byte_count(&shape) == Some(len);
    matches.then_some((ty, shape))
}

/// As [`tensor_of_kind`], for types of blocks only, which can be read as floats.
pub(crate) fn blocks_of_kind(kind: &str, len: u64) -> Option<(GgufType, Vec<usize>)> {
    tensor_of_kind(kind, len)
        .filter(|(ty, _)| matches!(ty.content(), Content::Blocks | Content::Codes(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_name_type_and_shape() {
        let kind = kind_of_tensor(GgufType::Q4_K, &[3, 256]);
        assert_eq!(kind, "tensor/Q4_K [3, 256]");
        assert_eq!(tensor_of_kind(&kind, 3 * 144), Some((GgufType::Q4_K, vec![3, 256])));
        assert_eq!(blocks_of_kind(&kind, 3 * 144), Some((GgufType::Q4_K, vec![3, 256])));
        assert_eq!(tensor_of_kind("tensor/I64 [2]", 16), Some((GgufType::I64, vec![2])));
        assert_eq!(blocks_of_kind("tensor/I64 [2]", 16), None);
    }

    #[test]
    fn rejects_kinds_that_contradict_the_bytes() {
        for (kind, len) in [
            ("tensor/Q4_K [3, 256]", 3 * 144 - 1),
            ("tensor/Q4_K [3, 255]", 3 * 144),
            ("tensor/Q4_K [768]]", 3 * 144),
            ("tensor/Q4_2 [32]", 18),
            ("tensor/F32 [1]", 4),
            ("tensor/I64 [18446744073709551615, 2]", 16),
            ("histogram/1", 4),
        ] {
            assert_eq!(tensor_of_kind(kind, len), None, "{kind}");
        }
    }
}
