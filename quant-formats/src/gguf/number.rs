//! Numbers of metadata.

/// A number of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum GgufNumber {
    /// An integer of any type, or a flag.
    Integer(i128),
    /// A float of any type.
    Float(f64),
}

mod sealed {
    pub trait Sealed {}
}

/// A type that [`GgufMetadata::number`](crate::GgufMetadata::number) gives: integers, if the number is
/// an integer in their range, and floats.
///
/// The trait is sealed.
pub trait FromNumber: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn from_number(number: GgufNumber) -> Option<Self>;
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl sealed::Sealed for $integer {}

        impl FromNumber for $integer {
            fn from_number(number: GgufNumber) -> Option<Self> {
                match number {
                    GgufNumber::Integer(integer) => integer.try_into().ok(),
                    GgufNumber::Float(_) => None,
                }
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 usize i8 i16 i32 i64 isize }

macro_rules! floats {
    ($($float:ty)*) => {$(
        impl sealed::Sealed for $float {}

        impl FromNumber for $float {
            fn from_number(number: GgufNumber) -> Option<Self> {
                Some(match number {
                    GgufNumber::Integer(integer) => integer as $float,
                    GgufNumber::Float(float) => float as $float,
                })
            }
        }
    )*};
}

floats! { f32 f64 }
