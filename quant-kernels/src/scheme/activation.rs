//! What can be asked of an activation.

use core::fmt;
use core::num::NonZeroU32;
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
/// | `dynamic-per-block-N-(affine\|symmetric)` | by the range of each `N` elements of a row |
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
    pub const DYNAMIC: Self = Self::Dynamic(DynamicQuantization {
        mapping: ActivationMapping::Affine,
        granularity: DynamicGranularity::Row,
    });

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
            Self::Dynamic(DynamicQuantization { mapping, granularity }) => {
                write!(f, "dynamic-per-{granularity}-{mapping}")
            }
            Self::Static { ty, mapping } => write!(f, "static-{mapping}-{ty}"),
        }
    }
}

const EXPECTED: &str = "float, dynamic, static, \
                        dynamic-per-(row|tensor|block-N)-(affine|symmetric) or \
                        static-(affine|symmetric)-int(2..8)";

/// All schemes; of those with blocks, the ones of 32.
fn all() -> impl Iterator<Item = ActivationScheme> {
    let mappings = [ActivationMapping::Affine, ActivationMapping::Symmetric];
    let block = NonZeroU32::new(32).map(DynamicGranularity::Block);
    let units = [DynamicGranularity::Row, DynamicGranularity::Tensor].into_iter().chain(block);
    let dynamic = units.flat_map(move |granularity| {
        mappings
            .map(|mapping| ActivationScheme::Dynamic(DynamicQuantization { mapping, granularity }))
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
            _ => per_block(name)
                .or_else(|| all().find(|scheme| scheme.to_string() == name))
                .ok_or_else(|| {
                    let names = all().map(|scheme| scheme.to_string());
                    let candidates = names.chain(["dynamic", "static"].map(String::from));
                    NameError::new(name, "activation scheme", EXPECTED, candidates)
                }),
        }
    }
}

/// The scheme that a name like `dynamic-per-block-32-symmetric` stands for.
fn per_block(name: &str) -> Option<ActivationScheme> {
    let (len, mapping) = name.strip_prefix("dynamic-per-block-")?.split_once('-')?;
    let granularity = DynamicGranularity::Block(len.parse().ok()?);
    let mapping = match mapping {
        "affine" => ActivationMapping::Affine,
        "symmetric" => ActivationMapping::Symmetric,
        _ => return None,
    };
    let scheme = ActivationScheme::Dynamic(DynamicQuantization { mapping, granularity });
    // Not `+32` or `032`.
    (scheme.to_string() == name).then_some(scheme)
}

/// How activations are quantized by the range they have (rules 7 and 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamicQuantization {
    /// Affine, unless told otherwise.
    pub mapping: ActivationMapping,
    /// Per row, unless told otherwise.
    pub granularity: DynamicGranularity,
}

impl Default for DynamicQuantization {
    fn default() -> Self {
        Self { mapping: ActivationMapping::Affine, granularity: DynamicGranularity::Row }
    }
}

/// Which elements of an activation share a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DynamicGranularity {
    /// All.
    Tensor,
    /// Those of a row, so that its result does not depend on the others.
    Row,
    /// So many consecutive elements of a row; the last block of a row may be shorter (rule 15).
    ///
    /// Where weights have blocks, the length divides theirs.
    Block(NonZeroU32),
}

impl fmt::Display for DynamicGranularity {
    /// As in names of schemes: `tensor`, `row`, `block-32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor => f.write_str("tensor"),
            Self::Row => f.write_str("row"),
            Self::Block(len) => write!(f, "block-{len}"),
        }
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
    use alloc::format;

    #[test]
    fn every_name_is_read_back() {
        for scheme in all() {
            assert_eq!(scheme.to_string().parse(), Ok(scheme));
        }
        let block: ActivationScheme = "dynamic-per-block-24-symmetric".parse().unwrap();
        assert_eq!(block.to_string(), "dynamic-per-block-24-symmetric");
        for bad in ["channel", "block", "block-0", "block-+8", "block-08", "block-4294967296"] {
            assert!(format!("dynamic-per-{bad}-affine").parse::<ActivationScheme>().is_err());
        }
        assert!("dynamic-per-block-8-full-range".parse::<ActivationScheme>().is_err());
        let error = "dinamic".parse::<ActivationScheme>().unwrap_err();
        assert_eq!(error.nearest(), Some("dynamic"));
    }
}
