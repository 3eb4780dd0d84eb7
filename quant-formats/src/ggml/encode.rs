//! Floats to blocks, as the reference functions of ggml quantize them.
//!
//! ggml computes codes with the scale in single precision and stores it in half precision. The
//! schemes of this project compute codes with the scale as it is stored, so theirs may differ.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use quant::QuantizationScheme;
use quant::scheme::f32_to_f16;

use super::types::GgufType;

/// A type of blocks that floats are quantized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the format's own names")]
#[non_exhaustive]
pub enum GgufEncoding {
    /// 4-bit codes from −8 to 7 with a scale of either sign.
    Q4_0,
    /// 4-bit codes from 0 to 15 with a scale and a minimum.
    Q4_1,
    /// 8-bit codes from −127 to 127 with a scale.
    Q8_0,
}

impl GgufEncoding {
    /// The type of the blocks.
    pub const fn ty(self) -> GgufType {
        match self {
            Self::Q4_0 => GgufType::Q4_0,
            Self::Q4_1 => GgufType::Q4_1,
            Self::Q8_0 => GgufType::Q8_0,
        }
    }

    /// The scheme of the codes and scales of the blocks.
    pub(crate) const fn scheme(self) -> QuantizationScheme {
        // Each encoding has one.
        match self.ty().scheme() {
            Some(scheme) => scheme,
            None => unreachable!(),
        }
    }

    /// The value of [`FILE_TYPE`] for a file of these blocks.
    pub(crate) const fn file_type(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
        }
    }
}

/// The key for the type of most tensors of a file, which engines show.
pub(crate) const FILE_TYPE: &str = "general.file_type";

/// The value of [`FILE_TYPE`] for a file of floats in single precision.
pub(crate) const ALL_F32: u32 = 0;

impl FromStr for GgufEncoding {
    type Err = UnknownEncoding;

    /// The encoding of a name such as `q8_0`, in letters of either case.
    fn from_str(name: &str) -> Result<Self, UnknownEncoding> {
        let all = [Self::Q4_0, Self::Q4_1, Self::Q8_0];
        let found = all.into_iter().find(|it| it.ty().name().eq_ignore_ascii_case(name));
        found.ok_or(UnknownEncoding)
    }
}

impl fmt::Display for GgufEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ty().fmt(f)
    }
}

/// A text is not the name of a [`GgufEncoding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownEncoding;

impl fmt::Display for UnknownEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not q8_0, q4_0 or q4_1")
    }
}

impl Error for UnknownEncoding {}

/// The number of values of a block, for all encodings.
const LEN: usize = 32;

/// Appends the blocks of `values`, whose number is a multiple of 32.
///
/// # Errors
/// The position of a value that is not finite, or that makes a scale infinite in half precision.
pub(crate) fn encode(
    encoding: GgufEncoding,
    values: &[f32],
    bytes: &mut Vec<u8>,
) -> Result<(), usize> {
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(at);
    }
    let block = match encoding {
        GgufEncoding::Q4_0 => q4_0,
        GgufEncoding::Q4_1 => q4_1,
        GgufEncoding::Q8_0 => q8_0,
    };
    for (i, values) in values.as_chunks::<LEN>().0.iter().enumerate() {
        block(values, bytes).ok_or_else(|| i * LEN + largest(values))?;
    }
    Ok(())
}

/// The position of the first value of largest magnitude.
fn largest(values: &[f32; LEN]) -> usize {
    (1..LEN).fold(0, |best, i| if values[i].abs() > values[best].abs() { i } else { best })
}

fn q8_0(values: &[f32; LEN], bytes: &mut Vec<u8>) -> Option<()> {
    let d = values[largest(values)].abs() / 127.0;
    let inverse = inverse(d);
    bytes.extend(half(d)?);
    // Ties are rounded away from zero.
    bytes.extend(values.map(|value| (value * inverse).round() as i8 as u8));
    Some(())
}

fn q4_0(values: &[f32; LEN], bytes: &mut Vec<u8>) -> Option<()> {
    let d = values[largest(values)] / -8.0;
    let inverse = inverse(d);
    bytes.extend(half(d)?);
    bytes.extend(nibbles(values, |value| value * inverse + 8.5));
    Some(())
}

fn q4_1(values: &[f32; LEN], bytes: &mut Vec<u8>) -> Option<()> {
    let least =
        values.iter().fold(f32::MAX, |least, &value| if value < least { value } else { least });
    let greatest =
        values.iter().fold(f32::MIN, |most, &value| if value > most { value } else { most });
    let d = (greatest - least) / 15.0;
    let inverse = inverse(d);
    bytes.extend(half(d)?);
    bytes.extend(half(least)?);
    bytes.extend(nibbles(values, |value| (value - least) * inverse + 0.5));
    Some(())
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The nearest number in half precision; `None` if that is infinite.
fn half(value: f32) -> Option<[u8; 2]> {
    let bits = f32_to_f16(value);
    (bits & 0x7C00 != 0x7C00).then(|| bits.to_le_bytes())
}

/// Codes, truncated to 4 bits: those of the first half of a block are the low ones of its bytes.
fn nibbles(values: &[f32; LEN], code: impl Fn(f32) -> f32) -> [u8; LEN / 2] {
    let code = |value: f32| (code(value) as u8).min(15);
    std::array::from_fn(|i| code(values[i]) | code(values[i + LEN / 2]) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_values_beyond_half_precision() {
        for encoding in [GgufEncoding::Q4_0, GgufEncoding::Q4_1, GgufEncoding::Q8_0] {
            for value in [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX] {
                let mut values = [0.0; 2 * LEN];
                values[40] = value;
                assert_eq!(encode(encoding, &values, &mut vec![]), Err(40), "{encoding:?} {value}");
            }
        }
    }

    #[test]
    fn names_are_those_of_types_in_either_case() {
        for encoding in [GgufEncoding::Q4_0, GgufEncoding::Q4_1, GgufEncoding::Q8_0] {
            assert_eq!(encoding.to_string().parse(), Ok(encoding));
            assert_eq!(encoding.to_string().to_lowercase().parse(), Ok(encoding));
        }
        let error = "q5_0".parse::<GgufEncoding>().unwrap_err();
        assert_eq!(error.to_string(), "not q8_0, q4_0 or q4_1");
    }

    #[test]
    fn blocks_of_zeros_have_the_scale_zero() {
        for (encoding, code) in
            [(GgufEncoding::Q4_0, 0x88), (GgufEncoding::Q4_1, 0), (GgufEncoding::Q8_0, 0)]
        {
            let mut bytes = vec![];
            encode(encoding, &[0.0; LEN], &mut bytes).unwrap();
            assert_eq!(bytes.len(), encoding.ty().block_bytes());
            assert!(bytes[4..].iter().all(|&byte| byte == code), "{encoding:?}: {bytes:?}");
        }
    }
}
