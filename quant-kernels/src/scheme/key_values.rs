//! What can be asked of keys and values.

#[cfg(feature = "serde")]
use alloc::string::String;
use alloc::string::ToString;
use core::fmt;
use core::str::FromStr;

use super::NameError;

/// How attention keeps keys and values.
///
/// It has a name, for recipes:
///
/// | name | |
/// |---|---|
/// | `f32` | as they are |
/// | `int8` | 8 bits, symmetric, with a scale for each token and head |
/// | `int4` | 4 bits, affine, with a scale and a zero point for each 32 dimensions of a head |
///
/// Before they are quantized, rows of a head are turned by a Hadamard matrix, which spreads dimensions that
/// are much larger than others, and from keys of 4 bits the mean of earlier ones is subtracted (rule 17 of
/// the numerics).
///
/// ```
/// use quant_kernels::scheme::KeyValueScheme;
/// let scheme: KeyValueScheme = "int8".parse()?;
/// assert_eq!(scheme, KeyValueScheme::Int8);
/// # Ok::<(), quant_kernels::scheme::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyValueScheme {
    /// Not quantized.
    #[default]
    F32,
    /// 8 bits, symmetric, with a scale for each token and head.
    Int8,
    /// 4 bits, affine, with a scale and a zero point for each 32 dimensions of a head.
    Int4,
}

impl KeyValueScheme {
    /// All schemes.
    pub const ALL: [Self; 3] = [Self::F32, Self::Int8, Self::Int4];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

impl fmt::Display for KeyValueScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for KeyValueScheme {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name).ok_or_else(|| {
            let names = Self::ALL.iter().map(ToString::to_string);
            NameError::new(name, "scheme of keys and values", "f32, int8 or int4", names)
        })
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for KeyValueScheme {
    /// Serializes as the name.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for KeyValueScheme {
    /// Deserializes from the name.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <String as serde::Deserialize>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for scheme in KeyValueScheme::ALL {
            assert_eq!(scheme.to_string().parse(), Ok(scheme));
        }
        assert_eq!("int9".parse::<KeyValueScheme>().unwrap_err().nearest(), Some("int8"));
    }
}
