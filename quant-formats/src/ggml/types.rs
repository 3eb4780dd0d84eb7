//! The types of tensors, by their numbers in the format.

use std::fmt;
use std::ops::Range;

use quant::__private::element_count;
use quant::QuantizationScheme;
use quant::tensor::FloatType;

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $id:literal: $values:literal in $bytes:literal,)*) => {
        /// The type of a tensor of a GGUF file, under the name that ggml gives it.
        ///
        /// A row of a tensor is a sequence of blocks; a block holds
        /// [`block_len`](Self::block_len) values in [`block_bytes`](Self::block_bytes) bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the format's own names")]
        #[non_exhaustive]
        pub enum GgufType {
            $($(#[$doc])* $name),*
        }

        impl GgufType {
            /// Every type that is read.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number in the format.
            pub const fn id(self) -> u32 {
                match self { $(Self::$name => $id),* }
            }

            /// The name, such as `Q4_K`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// The number of values of a block.
            pub const fn block_len(self) -> usize {
                match self { $(Self::$name => $values),* }
            }

            /// The bytes of a block.
            pub const fn block_bytes(self) -> usize {
                match self { $(Self::$name => $bytes),* }
            }
        }
    };
}

types! {
    /// IEEE 754 single precision.
    F32 = 0: 1 in 4,
    /// IEEE 754 half precision.
    F16 = 1: 1 in 2,
    /// 4-bit codes from −8 to 7 with a scale of either sign.
    Q4_0 = 2: 32 in 18,
    /// 4-bit codes from 0 to 15 with a scale and a minimum.
    Q4_1 = 3: 32 in 20,
    /// 5-bit codes from −16 to 15 with a scale of either sign.
    Q5_0 = 6: 32 in 22,
    /// 5-bit codes from 0 to 31 with a scale and a minimum.
    Q5_1 = 7: 32 in 24,
    /// 8-bit codes with a scale.
    Q8_0 = 8: 32 in 34,
    /// 2-bit codes; 16 scales and minima of 4 bits, which have a scale each.
    Q2_K = 10: 256 in 84,
    /// 3-bit codes; 16 scales of 6 bits, which have a scale.
    Q3_K = 11: 256 in 110,
    /// 4-bit codes; 8 scales and minima of 6 bits, which have a scale each.
    Q4_K = 12: 256 in 144,
    /// 5-bit codes; 8 scales and minima of 6 bits, which have a scale each.
    Q5_K = 13: 256 in 176,
    /// 6-bit codes; 16 scales of 8 bits, which have a scale.
    Q6_K = 14: 256 in 210,
    /// 8-bit codes with a scale in single precision, and their sums.
    Q8_K = 15: 256 in 292,
    /// Vectors of 8 from a codebook of 256, 2.06 bits a value.
    IQ2_XXS = 16: 256 in 66,
    /// Vectors of 8 from a codebook of 512, 2.31 bits a value.
    IQ2_XS = 17: 256 in 74,
    /// Vectors of 4 from a codebook of 256, 3.06 bits a value.
    IQ3_XXS = 18: 256 in 98,
    /// Vectors of 8 from a codebook of 2048, 1.56 bits a value.
    IQ1_S = 19: 256 in 50,
    /// 4-bit positions in a table of 16 values, with a scale.
    IQ4_NL = 20: 32 in 18,
    /// Vectors of 4 from a codebook of 512, 3.44 bits a value.
    IQ3_S = 21: 256 in 110,
    /// Vectors of 8 from a codebook of 1024, 2.56 bits a value.
    IQ2_S = 22: 256 in 82,
    /// As [`IQ4_NL`](Self::IQ4_NL), with 8 scales of 6 bits, which have a scale.
    IQ4_XS = 23: 256 in 136,
    /// Integers of 8 bits.
    I8 = 24: 1 in 1,
    /// Integers of 16 bits.
    I16 = 25: 1 in 2,
    /// Integers of 32 bits.
    I32 = 26: 1 in 4,
    /// Integers of 64 bits.
    I64 = 27: 1 in 8,
    /// IEEE 754 double precision.
    F64 = 28: 1 in 8,
    /// Vectors of 8 from a codebook of 2048, 1.75 bits a value.
    IQ1_M = 29: 256 in 56,
    /// bfloat16.
    BF16 = 30: 1 in 2,
    /// Codes −1, 0 and 1, five in a byte, with a scale.
    TQ1_0 = 34: 256 in 54,
    /// Codes −1, 0 and 1 of 2 bits, with a scale.
    TQ2_0 = 35: 256 in 66,
    /// E2M1 values with a power of two as their scale.
    MXFP4 = 39: 32 in 17,
    /// E2M1 values; each 16 of them have an E4M3 scale.
    NVFP4 = 40: 64 in 36,
    /// One bit: plus or minus a scale.
    Q1_0 = 41: 128 in 18,
    /// Codes −1, 0, 1 and 2 with a scale.
    Q2_0 = 42: 64 in 18,
}

/// Numbers of types that are refused, and their names.
///
/// All but `Q8_1` were withdrawn from the format. `Q8_1` holds inputs of products and is not a type of
/// files; readers do not even agree on the length of its blocks.
pub(crate) const REFUSED: [(u32, &str); 9] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

/// What a tensor of a type is for this crate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Content {
    /// Floats that a checkpoint has tensors of.
    Floats(FloatType),
    /// Codes and scales of a scheme.
    Codes(QuantizationScheme),
    /// Other quantized values: they can be read as floats, and their blocks are copied unchanged.
    Blocks,
    /// Numbers that are copied unchanged and never quantized.
    Plain,
}

impl GgufType {
    /// The type with this number.
    pub(crate) fn of_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.id() == id)
    }

    /// The type with this name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.name() == name)
    }

    pub(crate) fn content(self) -> Content {
        match self {
            Self::F32 => Content::Floats(FloatType::F32),
            Self::F16 => Content::Floats(FloatType::F16),
            Self::BF16 => Content::Floats(FloatType::Bf16),
            Self::I8 | Self::I16 | Self::I32 | Self::I64 | Self::F64 => Content::Plain,
            _ => self.scheme().map_or(Content::Blocks, Content::Codes),
        }
    }

    /// Whether rows of this length consist of whole blocks.
    pub(crate) fn divides_row(self, shape: &[usize]) -> bool {
        shape.last().copied().unwrap_or(1).is_multiple_of(self.block_len())
    }

    /// The bytes of elements that are whole blocks.
    pub(crate) fn bytes_of(self, elements: Range<usize>) -> Range<usize> {
        let bytes = |at: usize| at / self.block_len() * self.block_bytes();
        bytes(elements.start)..bytes(elements.end)
    }

    /// The bytes of a tensor whose rows consist of whole blocks; `None` if `u64` cannot hold them.
    pub(crate) fn byte_count(self, shape: &[usize]) -> Option<u64> {
        let blocks = element_count(shape)? / self.block_len();
        (blocks as u64).checked_mul(self.block_bytes() as u64)
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_to_one_type() {
        for &ty in GgufType::ALL {
            assert_eq!(GgufType::of_id(ty.id()), Some(ty));
            assert_eq!(GgufType::of_name(ty.name()), Some(ty));
            assert!(!REFUSED.iter().any(|&(id, name)| id == ty.id() || name == ty.name()));
        }
        assert_eq!(GgufType::of_name("Q4_2"), None);
    }

    #[test]
    fn every_number_of_the_format_is_read_or_refused() {
        for id in 0..=42 {
            assert!(
                GgufType::of_id(id).is_some() || REFUSED.iter().any(|&(refused, _)| refused == id),
                "{id}"
            );
        }
        assert_eq!(GgufType::of_id(43), None);
    }

    #[test]
    fn bytes_are_counted_in_whole_blocks() {
        assert_eq!(GgufType::Q4_K.byte_count(&[3, 512]), Some(3 * 2 * 144));
        assert_eq!(GgufType::F16.byte_count(&[]), Some(2));
        assert_eq!(GgufType::F64.byte_count(&[usize::MAX]), None);
        assert_eq!(GgufType::Q8_0.byte_count(&[0, 32]), Some(0));
        assert!(GgufType::Q8_0.divides_row(&[7, 64]));
        assert!(!GgufType::Q8_0.divides_row(&[64, 7]));
        assert!(!GgufType::Q8_0.divides_row(&[]));
    }
}
