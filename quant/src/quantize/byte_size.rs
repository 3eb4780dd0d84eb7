//! Numbers of bytes as people read and write them.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// A number of bytes that is printed and parsed with a unit.
///
/// Printed sizes have three significant digits and decimal units, as files are listed elsewhere:
/// 1 kB is 1000 bytes. Parsed sizes may also have the binary units KiB, MiB, GiB and TiB, powers
/// of 1024. The case of a unit does not matter.
///
/// ```
/// use quant::quantize::ByteSize;
///
/// assert_eq!(ByteSize(86_704_128).to_string(), "86.7 MB");
/// assert_eq!("24MB".parse(), Ok(ByteSize(24_000_000)));
/// assert_eq!("1.5 MiB".parse(), Ok(ByteSize(1_572_864)));
/// assert_eq!("1000000".parse(), Ok(ByteSize(1_000_000)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000 {
            return f.pad(&alloc::format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1000.0;
        for unit in ["kB", "MB", "GB", "TB", "PB", "EB"] {
            // 999.5 would be printed as 1000.
            if value < 999.5 || unit == "EB" {
                let decimals = match value {
                    ..9.995 => 2,
                    ..99.95 => 1,
                    _ => 0,
                };
                return f.pad(&alloc::format!("{value:.decimals$} {unit}"));
            }
            value /= 1000.0;
        }
        Ok(())
    }
}

/// The units in lower case, and their bytes.
const UNITS: [(&str, f64); 11] = [
    ("", 1.0),
    ("b", 1.0),
    ("bytes", 1.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("tib", 1_099_511_627_776.0),
];

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    /// A number with a unit: `256MB`, `1.5 GiB`, `1000000`. Fractions of a byte are rounded to the
    /// nearest.
    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let error = || ByteSizeError { text: text.into() };
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = (&trimmed[..end], trimmed[end..].trim_start().to_ascii_lowercase());
        let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        if size == 1.0 {
            return number.parse().map(Self).map_err(|_| error());
        }
        let bytes = number.parse::<f64>().map_err(|_| error())? * size;
        // 2^64 is the first that does not fit; a cast would saturate.
        if bytes < 18_446_744_073_709_551_616.0 {
            Ok(Self(bytes.round() as u64))
        } else {
            Err(error())
        }
    }
}

/// A text is not a number of bytes below 2^64.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ByteSizeError {
    /// The text.
    pub text: String,
}

impl fmt::Display for ByteSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a size; expected a number with a unit, such as 256MB, 1.5GiB or 1000000",
            self.text
        )
    }
}

impl core::error::Error for ByteSizeError {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn sizes_are_parsed_in_every_unit() {
        for (text, expected) in [
            ("256MiB", 256 << 20),
            ("1.5GB", 1_500_000_000),
            ("1000", 1000),
            ("7B", 7),
            ("7 bytes", 7),
            ("2kib", 2048),
            (" 3 MB", 3_000_000),
            ("2tib", 2 << 40),
            ("0", 0),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(expected)), "{text}");
        }
    }

    #[test]
    fn rejects_texts_that_are_not_sizes() {
        for text in
            ["", "MiB", "-1", "nan", "1e3", "1e30GB", "20000000TB", "2K", "1.5", "1.5.2MB", "5%"]
        {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert_eq!(error.text, text);
        }
    }

    #[test]
    fn sizes_are_printed_with_three_digits_in_decimal_units() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (99_960, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (86_704_128, "86.7 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), expected);
        }
    }
}
