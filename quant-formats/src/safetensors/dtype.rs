//! The element types of the format.

use std::fmt;

use quant::__private::element_count;
use quant::record::Stored;
use quant::tensor::FloatType;

macro_rules! dtypes {
    ($($name:ident = $bits:literal),* $(,)?) => {
        /// An element type, by its name in the format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the format's own names")]
        pub(crate) enum Dtype { $($name),* }

        impl Dtype {
            const ALL: &[Self] = &[$(Self::$name),*];

            /// The name in the format.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// The bits of an element.
            pub(crate) const fn bits(self) -> usize {
                match self { $(Self::$name => $bits),* }
            }
        }
    };
}

dtypes! {
    BOOL = 8, U8 = 8, I8 = 8, I16 = 16, U16 = 16, I32 = 32, U32 = 32, I64 = 64, U64 = 64,
    F16 = 16, BF16 = 16, F32 = 32, F64 = 64, C64 = 64,
    F8_E5M2 = 8, F8_E4M3 = 8, F8_E8M0 = 8, F8_E4M3FNUZ = 8, F8_E5M2FNUZ = 8,
    F6_E2M3 = 6, F6_E3M2 = 6, F4 = 4,
}

impl Dtype {
    /// The type of this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.name() == name)
    }

    /// The type of floats that are stored like this.
    pub(crate) fn of_float(stored: Stored) -> Self {
        match stored {
            Stored::Float(FloatType::F16) => Self::F16,
            Stored::Float(FloatType::Bf16) => Self::BF16,
            _ => Self::F32,
        }
    }

    /// The bytes of a tensor; `None` if `u64` cannot hold their number, or they are not whole.
    pub(crate) fn byte_count(self, shape: &[usize]) -> Option<u64> {
        let elements = element_count(shape)?;
        let bits = (elements as u64).checked_mul(self.bits() as u64)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_round_trip() {
        for &dtype in Dtype::ALL {
            assert_eq!(Dtype::of(dtype.name()), Some(dtype));
        }
        assert_eq!(Dtype::of("f32"), None);
    }

    #[test]
    fn shapes_without_whole_bytes_have_no_size() {
        assert_eq!(Dtype::F4.byte_count(&[3]), None);
        assert_eq!(Dtype::F4.byte_count(&[4]), Some(2));
        assert_eq!(Dtype::F32.byte_count(&[]), Some(4));
        assert_eq!(Dtype::F32.byte_count(&[usize::MAX, 2]), None);
    }
}
