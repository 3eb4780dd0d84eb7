//! What can be asked of an activation.

use core::fmt;
use core::str::FromStr;

use alloc::string::{String, ToString};

use super::{Grid, Mapping, NameError, QuantizationType, ScaleType};

/// How an activation is quantized on its way into an integer product.
///
/// It has a name, for recipes:
///
/// | name | |
/// |---|---|
/// | `float` | not at all: the products of quantized weights are float, too |
/// | `dynamic` | `dynamic-per-row-affine`: by the range that each row has |
/// | `dynamic-per-(row\|tensor)-(affine\|symmetric)` | by the range found on the way |
/// | `static` | `static-affine-int8`: by a range found in calibration |
/// | `static-(affine\|symmetric)-int(2..8)` | likewise, with other codes |
///
/// ```
/// use quant_kernels::scheme::ActivationScheme;
/// let scheme: ActivationScheme = "dynamic".parse()?;
/// assert_eq!(scheme.to_string(), "dynamic-per-row-affine");
/// # Ok::<(), quant_kernels::scheme::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActivationScheme {
    /// Not quantized.
    #[default]
    Float,
    /// Quantized to 8 bits by the range found on the way (rule 7).
    Dynamic(DynamicQuantization),
    /// Quantized, per tensor, by a range found in calibration.
    Static {
        /// The type of the codes.
        ty: QuantizationType,
        /// The mapping.
        mapping: ActivationMapping,
    },
}

impl ActivationScheme {
    /// 8 bits, affine, by the range that each row has.
    pub const DYNAMIC: Self =
        Self::Dynamic(DynamicQuantization { mapping: ActivationMapping::Affine, per_row: true });

    /// 8 bits, affine, by a range found in calibration.
    pub const STATIC: Self =
        Self::Static { ty: QuantizationType::QInt8, mapping: ActivationMapping::Affine };

    /// The codes and scales in use; `None` when float.
    pub fn grid(self) -> Option<Grid> {
        match self {
            Self::Float => None,
            Self::Dynamic(DynamicQuantization { mapping, .. }) => {
                Some(Grid::new(QuantizationType::QInt8, mapping.into(), ScaleType::F32))
            }
            Self::Static { ty, mapping } => Some(Grid::new(ty, mapping.into(), ScaleType::F32)),
        }
    }
}

/// How the range of an activation is laid over the codes: one of the mappings that integer products
/// have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ActivationMapping {
    /// Centred on zero: [`Mapping::Symmetric`].
    Symmetric,
    /// With a zero point: [`Mapping::Affine`].
    Affine,
}

impl From<ActivationMapping> for Mapping {
    fn from(mapping: ActivationMapping) -> Self {
        match mapping {
            ActivationMapping::Symmetric => Self::Symmetric,
            ActivationMapping::Affine => Self::Affine,
        }
    }
}

impl fmt::Display for ActivationMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Mapping::from(*self).fmt(f)
    }
}

impl fmt::Display for ActivationScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float => f.write_str("float"),
            Self::Dynamic(DynamicQuantization { mapping, per_row }) => {
                let unit = if *per_row { "row" } else { "tensor" };
                write!(f, "dynamic-per-{unit}-{mapping}")
            }
            Self::Static { ty, mapping } => write!(f, "static-{mapping}-{ty}"),
        }
    }
}

const EXPECTED: &str = "float, dynamic, static, dynamic-per-(row|tensor)-(affine|symmetric) or \
                        static-(affine|symmetric)-int(2..8)";

/// All schemes.
fn all() -> impl Iterator<Item = ActivationScheme> {
    let mappings = [ActivationMapping::Affine, ActivationMapping::Symmetric];
    let dynamic = [true, false].into_iter().flat_map(move |per_row| {
        mappings.map(|mapping| ActivationScheme::Dynamic(DynamicQuantization { mapping, per_row }))
    });
    let fixed = QuantizationType::ALL
        .into_iter()
        .flat_map(move |ty| mappings.map(|mapping| ActivationScheme::Static { ty, mapping }));
    core::iter::once(ActivationScheme::Float).chain(dynamic).chain(fixed)
}

impl FromStr for ActivationScheme {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        match name {
            "dynamic" => Ok(Self::DYNAMIC),
            "static" => Ok(Self::STATIC),
            _ => all().find(|scheme| scheme.to_string() == name).ok_or_else(|| {
                let names = all().map(|scheme| scheme.to_string());
                let candidates = names.chain(["dynamic", "static"].map(String::from));
                NameError::new(name, "activation scheme", EXPECTED, candidates)
            }),
        }
    }
}

/// How activations are quantized by the range they have (rule 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamicQuantization {
    /// Affine, unless told otherwise.
    pub mapping: ActivationMapping,
    /// Whether each row has its own range, so that its result does not depend on the others.
    pub per_row: bool,
}

impl Default for DynamicQuantization {
    fn default() -> Self {
        Self { mapping: ActivationMapping::Affine, per_row: true }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for ActivationScheme {
    /// Serializes as the name.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for ActivationScheme {
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
        for scheme in all() {
            assert_eq!(scheme.to_string().parse(), Ok(scheme));
        }
        assert!("dynamic-per-channel-affine".parse::<ActivationScheme>().is_err());
        let error = "dinamic".parse::<ActivationScheme>().unwrap_err();
        assert_eq!(error.nearest(), Some("dynamic"));
    }
}
