//! Names of schemes: `per-channel-symmetric-int8:axis=1`.
//!
//! The parser is `const`, so that the derive's `scheme = "…"` is checked by the compiler.

use core::fmt;
use core::str::FromStr;

use alloc::string::ToString;

use super::{
    Axis, Block, Granularity, Mapping, NameError, QuantizationScheme, QuantizationType, ScaleType,
};

const EXPECTED: &str = "per-(tensor|channel|block)-(symmetric|affine|full-range|minimum)-int(2..8), \
                        then :axis=N for channels, :len=N and :scale=(f16|bf16) for blocks; or \
                        int8, int4, int2, q8_0, q5_1, q5_0, q4_1, q4_0";

/// Why a string is refused, for messages at compile time.
pub const REFUSAL: &str = "not the name of a quantization scheme, which is \
    per-(tensor|channel|block)-(symmetric|affine|full-range|minimum)-int(2..8), then :axis=N for \
    channels, :len=N and :scale=(f16|bf16) for blocks; or int8, int4, int2, q8_0, q5_1, q5_0, q4_1, q4_0";

/// Short names, and what they stand for.
const ALIASES: [(&str, QuantizationScheme); 8] = {
    use QuantizationScheme::{
        PerBlockFullRange, PerBlockMinimum, PerBlockSymmetric, PerChannelSymmetric,
    };
    use QuantizationType::{QInt2, QInt4, QInt5, QInt8};
    let halves = Block::DEFAULT.with_f16_scales();
    [
        ("int8", PerChannelSymmetric(QInt8, Axis::FIRST)),
        ("int4", PerBlockSymmetric(QInt4, Block::DEFAULT)),
        ("int2", PerBlockSymmetric(QInt2, Block::DEFAULT)),
        ("q8_0", PerBlockSymmetric(QInt8, halves)),
        ("q4_0", PerBlockFullRange(QInt4, halves)),
        ("q4_1", PerBlockMinimum(QInt4, halves)),
        ("q5_0", PerBlockFullRange(QInt5, halves)),
        ("q5_1", PerBlockMinimum(QInt5, halves)),
    ]
};

impl QuantizationScheme {
    /// The scheme with this name, or `None`.
    ///
    /// A name is `per-tensor-`, `per-channel-` or `per-block-`; `symmetric-`, `affine-`,
    /// `full-range-` or `minimum-` (symmetric if left out); `int2` to `int8`; then, after a colon
    /// each, `axis=N` for channels (default 0) and `len=N` and `scale=f16` or `scale=bf16` for
    /// blocks (default 32 and f32). An underscore may
    /// stand for a hyphen. Short names are:
    ///
    /// | name | stands for |
    /// |---|---|
    /// | `int8` | `per-channel-symmetric-int8` |
    /// | `int4`, `int2` | `per-block-symmetric-int4`, `per-block-symmetric-int2` |
    /// | `q8_0` | `per-block-symmetric-int8:scale=f16` |
    /// | `q4_0`, `q5_0` | `per-block-full-range-int4:scale=f16`, `per-block-full-range-int5:scale=f16` |
    /// | `q4_1`, `q5_1` | `per-block-minimum-int4:scale=f16`, `per-block-minimum-int5:scale=f16` |
    ///
    /// The function is `const`, so that a wrong name can be a compile error.
    ///
    /// ```
    /// use quant_kernels::scheme::QuantizationScheme;
    /// const SCHEME: QuantizationScheme =
    ///     QuantizationScheme::from_name("per-channel-symmetric-int8:axis=-1").unwrap();
    /// assert_eq!(QuantizationScheme::from_name("per_channel_int8:axis=-1"), Some(SCHEME));
    /// assert!(QuantizationScheme::from_name("per-tensor-symmetric-int9").is_none());
    /// ```
    pub const fn from_name(name: &str) -> Option<Self> {
        let mut alias = 0;
        while alias < ALIASES.len() {
            if let Some([]) = strip(name.as_bytes(), ALIASES[alias].0.as_bytes()) {
                return Some(ALIASES[alias].1);
            }
            alias += 1;
        }
        let rest = name.as_bytes();
        let (mut granularity, rest) = if let Some(rest) = strip(rest, b"per-tensor-") {
            (Granularity::PerTensor, rest)
        } else if let Some(rest) = strip(rest, b"per-channel-") {
            (Granularity::PerChannel(Axis::FIRST), rest)
        } else if let Some(rest) = strip(rest, b"per-block-") {
            (Granularity::PerBlock(Block::DEFAULT), rest)
        } else {
            return None;
        };
        let (mapping, rest) = if let Some(rest) = strip(rest, b"symmetric-int") {
            (Mapping::Symmetric, rest)
        } else if let Some(rest) = strip(rest, b"affine-int") {
            (Mapping::Affine, rest)
        } else if let Some(rest) = strip(rest, b"full-range-int") {
            (Mapping::FullRange, rest)
        } else if let Some(rest) = strip(rest, b"minimum-int") {
            (Mapping::Minimum, rest)
        } else if let Some(rest) = strip(rest, b"int") {
            (Mapping::Symmetric, rest)
        } else {
            return None;
        };
        let Some((digit, mut rest)) = rest.split_first() else { return None };
        let Some(ty) = QuantizationType::from_bits(digit.wrapping_sub(b'0') as u32) else {
            return None;
        };
        let mut seen_axis_or_len = false;
        let mut seen_scale = false;
        while !rest.is_empty() {
            (granularity, rest) = match granularity {
                Granularity::PerChannel(_) if !seen_axis_or_len => {
                    let Some(rest) = strip(rest, b":axis=") else { return None };
                    let Some((index, rest)) = signed(rest) else { return None };
                    seen_axis_or_len = true;
                    (Granularity::PerChannel(Axis::new(index)), rest)
                }
                Granularity::PerBlock(block) if !seen_scale => {
                    if let Some(rest) = strip(rest, b":scale=f16") {
                        seen_scale = true;
                        (Granularity::PerBlock(block.with_f16_scales()), rest)
                    } else if let Some(rest) = strip(rest, b":scale=bf16") {
                        seen_scale = true;
                        (Granularity::PerBlock(block.with_bf16_scales()), rest)
                    } else if let Some(rest) = strip(rest, b":len=")
                        && !seen_axis_or_len
                        && let Some((len @ 1.., rest)) = signed(rest)
                    {
                        seen_axis_or_len = true;
                        let Some(block) = Block::new(len.unsigned_abs()) else { return None };
                        (Granularity::PerBlock(block), rest)
                    } else {
                        return None;
                    }
                }
                _ => return None,
            };
        }
        Some(Self::new(ty, mapping, granularity))
    }
}

/// `bytes` after `prefix`, if it starts with it, an underscore standing for any hyphen.
/// (`strip_prefix` is not `const`.)
const fn strip<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let Some((head, rest)) = bytes.split_at_checked(prefix.len()) else { return None };
    let mut i = 0;
    while i < prefix.len() {
        if head[i] != prefix[i] && !(head[i] == b'_' && prefix[i] == b'-') {
            return None;
        }
        i += 1;
    }
    Some(rest)
}

/// The decimal number at the start of `bytes`, with an optional minus, and what follows it.
const fn signed(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (negative, mut rest) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    let mut value: i32 = 0;
    let before = rest.len();
    while let Some((&digit @ b'0'..=b'9', tail)) = rest.split_first() {
        let Some(tens) = value.checked_mul(10) else { return None };
        let Some(next) = tens.checked_add((digit - b'0') as i32) else { return None };
        value = next;
        rest = tail;
    }
    if rest.len() == before {
        return None;
    }
    Some((if negative { -value } else { value }, rest))
}

impl fmt::Display for QuantizationScheme {
    /// The name, in its shortest form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.granularity() {
            Granularity::PerTensor => "tensor",
            Granularity::PerChannel(_) => "channel",
            Granularity::PerBlock(_) => "block",
        };
        write!(f, "per-{unit}-{}-{}", self.mapping(), self.quantization_type())?;
        match self.granularity() {
            Granularity::PerChannel(axis) if axis != Axis::FIRST => {
                write!(f, ":axis={}", axis.index())
            }
            Granularity::PerBlock(block) => {
                if block.len() != Block::DEFAULT.len() {
                    write!(f, ":len={}", block.len())?;
                }
                match block.scale_type() {
                    ScaleType::F32 => Ok(()),
                    scale @ (ScaleType::F16 | ScaleType::Bf16) => write!(f, ":scale={scale}"),
                }
            }
            Granularity::PerTensor | Granularity::PerChannel(_) => Ok(()),
        }
    }
}

impl FromStr for QuantizationScheme {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::from_name(name).ok_or_else(|| not_a_scheme(name))
    }
}

fn not_a_scheme(name: &str) -> NameError {
    // Parameters after a colon are not corrected.
    let (base, parameters) = name.split_at(name.find(':').unwrap_or(name.len()));
    let granularities = [
        Granularity::PerTensor,
        Granularity::PerChannel(Axis::FIRST),
        Granularity::PerBlock(Block::DEFAULT),
    ];
    let schemes = granularities.into_iter().flat_map(|granularity| {
        Mapping::ALL.into_iter().flat_map(move |mapping| {
            QuantizationType::ALL.map(|ty| QuantizationScheme::new(ty, mapping, granularity))
        })
    });
    let aliases = ALIASES.iter().map(|alias| alias.0.to_string());
    let candidates = schemes.map(|scheme| scheme.to_string()).chain(aliases);
    NameError::new(base, "quantization scheme", EXPECTED, candidates)
        .with_suffix(parameters, |name| QuantizationScheme::from_name(name).is_some())
}

#[cfg(feature = "serde")]
impl serde::Serialize for QuantizationScheme {
    /// Serializes as the name.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for QuantizationScheme {
    /// Deserializes from the name.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <alloc::string::String as serde::Deserialize>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_schemes() -> impl Iterator<Item = QuantizationScheme> {
        let granularities = [
            Granularity::PerTensor,
            Granularity::PerChannel(Axis::FIRST),
            Granularity::PerChannel(Axis::LAST),
            Granularity::PerChannel(Axis::new(17)),
            Granularity::PerBlock(Block::DEFAULT),
            Granularity::PerBlock(Block::new(1).unwrap().with_f16_scales()),
            Granularity::PerBlock(Block::new(i32::MAX as u32).unwrap()),
            Granularity::PerBlock(Block::DEFAULT.with_bf16_scales()),
        ];
        granularities.into_iter().flat_map(|granularity| {
            QuantizationType::ALL.into_iter().flat_map(move |ty| {
                Mapping::ALL.map(|mapping| QuantizationScheme::new(ty, mapping, granularity))
            })
        })
    }

    #[test]
    fn every_name_is_read_back() {
        for scheme in all_schemes() {
            let name = scheme.to_string();
            assert_eq!(QuantizationScheme::from_name(&name), Some(scheme), "{name}");
        }
    }

    #[test]
    fn parts_make_the_whole() {
        for scheme in all_schemes() {
            let again = QuantizationScheme::new(
                scheme.quantization_type(),
                scheme.mapping(),
                scheme.granularity(),
            );
            assert_eq!(again, scheme);
        }
    }

    #[test]
    fn wrong_names_are_refused_whole() {
        for name in [
            "",
            "int9",
            "int88",
            "q6_1",
            "q4-0",
            "per-tensor-int",
            "per-tensor",
            "per-tensor-symmetric-",
            "per-tensor-symmetric-int",
            "per-tensor-symmetric-int1",
            "per-tensor-symmetric-int9",
            "per-tensor-symmetric-int88",
            "per-tensor-symmetric-int8 ",
            "per-tensor-symmetric-int8:axis=0",
            "per-channel-symmetric-int8:axis=",
            "per-channel-symmetric-int8:axis=-",
            "per-channel-symmetric-int8:axis=0:axis=1",
            "per-channel-symmetric-int8:axis=99999999999",
            "per-channel-symmetric-int8:len=3",
            "per-block-symmetric-int8:len=0",
            "per-block-symmetric-int8:len=-1",
            "per-block-symmetric-int8:len=8:len=8",
            "per-block-symmetric-int8:scale=f16:scale=f16",
            "per-block-symmetric-int8:scale=f8",
        ] {
            let error = name.parse::<QuantizationScheme>().unwrap_err();
            assert!(error.to_string().contains(name));
        }
    }

    #[test]
    fn short_names_and_underscores_are_read() {
        for (name, full) in [
            ("int8", "per-channel-symmetric-int8"),
            ("int4", "per-block-symmetric-int4"),
            ("int2", "per-block-symmetric-int2"),
            ("q8_0", "per-block-symmetric-int8:scale=f16"),
            ("q4_0", "per-block-full-range-int4:scale=f16"),
            ("q4_1", "per-block-minimum-int4:scale=f16"),
            ("q5_0", "per-block-full-range-int5:scale=f16"),
            ("q5_1", "per-block-minimum-int5:scale=f16"),
            ("per-tensor-int5", "per-tensor-symmetric-int5"),
            ("per_channel_int4", "per-channel-symmetric-int4"),
            ("per_block_affine_int4:len=64", "per-block-affine-int4:len=64"),
        ] {
            assert_eq!(name.parse::<QuantizationScheme>().unwrap().to_string(), full, "{name}");
        }
    }

    #[test]
    fn the_nearest_scheme_is_suggested() {
        let error = |name: &str| name.parse::<QuantizationScheme>().unwrap_err();
        for (name, full) in [
            ("per-tensor-symetric-int8", Some("per-tensor-symmetric-int8")),
            ("perchannel-affine-int4:axis=1", Some("per-channel-affine-int4:axis=1")),
            ("per-block-affine-int9:len=64", Some("per-block-affine-int8:len=64")),
            ("per-chanel-affine-int4:len=64", None),
            ("bfloat16", None),
        ] {
            assert_eq!(error(name).nearest(), full, "{name}");
        }
    }
}
