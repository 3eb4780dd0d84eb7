//! Text and numbers in HTML.

use std::fmt;

use quant::quantize::ByteSize;

use crate::text::is_invisible;

/// The most characters of a name.
const LONGEST: usize = 200;

/// Text in an element or an attribute. HTML's special characters are escaped, control characters
/// and invisible ones are replaced, and long text ends with an ellipsis.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, self.0, |_| None)
    }
}

/// A name in an element, as [`Text`], with possible line breaks after dots and underscores.
pub(super) struct Path<'a>(pub(super) &'a str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<bdi>")?;
        write_text(f, self.0, |c| match c {
            '.' => Some(".<wbr>"),
            '_' => Some("_<wbr>"),
            _ => None,
        })?;
        f.write_str("</bdi>")
    }
}

/// Writes text as [`Text`] says, with `special` for characters of the caller. There may be a name for
/// each of many tensors, so what needs no escape is written at once.
fn write_text(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    special: impl Fn(char) -> Option<&'static str>,
) -> fmt::Result {
    let (text, more) = match text.char_indices().nth(LONGEST) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    };
    let mut written = 0;
    for (position, c) in text.char_indices() {
        if let Some(escaped) = escaped(c).or_else(|| special(c)) {
            f.write_str(&text[written..position])?;
            f.write_str(escaped)?;
            written = position + c.len_utf8();
        }
    }
    f.write_str(&text[written..])?;
    f.write_str(more)
}

/// What stands for a character that must not be in a page as it is.
fn escaped(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        ' '..='~' => None,
        c if c.is_control() || is_invisible(c) => Some("\u{FFFD}"),
        _ => None,
    }
}

/// A size without a line break before its unit.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ByteSize(self.0).to_string().replace(' ', "\u{A0}"))
    }
}

/// A value with three significant digits.
pub(super) struct Value(pub(super) f64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs();
        if self.0 < 0.0 {
            f.write_str("\u{2212}")?;
        }
        match magnitude {
            0.0 => f.write_str("0"),
            ..0.001 | 10_000.0.. => {
                f.write_str(&format!("{magnitude:.2e}").replace('-', "\u{2212}"))
            }
            ..0.01 => Fixed(magnitude, 5).fmt(f),
            ..0.1 => Fixed(magnitude, 4).fmt(f),
            ..1.0 => Fixed(magnitude, 3).fmt(f),
            ..10.0 => Fixed(magnitude, 2).fmt(f),
            ..100.0 => Fixed(magnitude, 1).fmt(f),
            _ => Fixed(magnitude, 0).fmt(f),
        }
    }
}

/// A ratio in dB; `exact` without an error.
pub(super) struct Decibels(pub(super) Option<f64>);

impl fmt::Display for Decibels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(db) => write!(f, "{}\u{A0}dB", Fixed(db, 1)),
            None => f.write_str("exact"),
        }
    }
}

/// A number with so many digits after the point. A page has a dozen for each of many tensors, and this
/// takes a fraction of the time of the standard library, whose rounding is exact.
pub(super) struct Fixed(pub(super) f64, pub(super) u32);

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, digits) = *self;
        match Decimal::of(value, digits) {
            Some(decimal) => decimal.write(f, false),
            None => write!(f, "{value:.0$}", digits as usize),
        }
    }
}

/// A coordinate of a picture: a number with at most so many digits after the point.
pub(super) struct Rounded(pub(super) f64, pub(super) u32);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, digits) = *self;
        match Decimal::of(value, digits) {
            Some(decimal) => decimal.write(f, true),
            None => write!(f, "{value:.0$}", digits as usize),
        }
    }
}

/// A number in integers.
struct Decimal {
    is_negative: bool,
    whole: u64,
    fraction: u64,
    digits: u32,
}

impl Decimal {
    /// `None` beyond the range in which every integer is a float.
    fn of(value: f64, digits: u32) -> Option<Self> {
        const LIMIT: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
        let unit = 10u64.pow(digits);
        let scaled = (value * unit as f64).round();
        (scaled.abs() < LIMIT).then(|| {
            let (is_negative, scaled) = (scaled < 0.0, scaled.abs() as u64);
            Self { is_negative, whole: scaled / unit, fraction: scaled % unit, digits }
        })
    }

    /// Writes the number; `short` without a fraction of zeros.
    fn write(&self, f: &mut fmt::Formatter<'_>, short: bool) -> fmt::Result {
        let sign = if self.is_negative { "-" } else { "" };
        let Self { whole, fraction, digits, .. } = self;
        if *digits == 0 || (short && *fraction == 0) {
            return write!(f, "{sign}{whole}");
        }
        write!(f, "{sign}{whole}.{fraction:00$}", *digits as usize)
    }
}

/// A count, in groups of three digits.
pub(super) struct Count(pub(super) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut unit, count) = (1, self.0);
        while count / unit >= 1000 {
            unit *= 1000;
        }
        write!(f, "{}", count / unit)?;
        while unit > 1 {
            unit /= 1000;
            write!(f, ",{:03}", count / unit % 1000)?;
        }
        Ok(())
    }
}

/// A shape: `384 × 1536`.
pub(super) struct Shape<'a>(pub(super) &'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("scalar");
        }
        for (i, extent) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { " × " };
            write!(f, "{separator}{extent}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        let hostile = "</td><script>alert(\"1\" & '2')</script>\u{0}\n";
        let expected = "&lt;/td&gt;&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)\
                        &lt;/script&gt;\u{FFFD}\u{FFFD}";
        assert_eq!(Text(hostile).to_string(), expected);
        assert_eq!(Text("\u{202E}gnp.exe\u{200B}").to_string(), "\u{FFFD}gnp.exe\u{FFFD}");
        let long = "ä".repeat(1000);
        assert_eq!(Text(&long).to_string(), "ä".repeat(LONGEST) + "…");
        assert_eq!(Path("a.b<").to_string(), "<bdi>a.<wbr>b&lt;</bdi>");
        let whole = "ä".repeat(LONGEST);
        assert_eq!(Text(&whole).to_string(), whole);
    }

    #[test]
    fn numbers_have_three_digits_and_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (90_868_376, "90.9 MB"),
            (999_960_000, "1.00 GB"),
            (12_345_678_901_234_567, "12.3 PB"),
        ] {
            assert_eq!(Bytes(bytes).to_string().replace('\u{A0}', " "), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.5, "1.50"),
            (-0.25, "−0.250"),
            (0.0123, "0.0123"),
            (0.00123, "0.00123"),
            (1.234e-5, "1.23e−5"),
            (1234.0, "1234"),
            (1e30, "1.00e30"),
        ] {
            assert_eq!(Value(value).to_string(), text);
        }
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Count(count).to_string(), text);
        }
        for (value, digits, rounded, fixed) in [
            (0.0, 1, "0", "0.0"),
            (400.0, 2, "400", "400.00"),
            (-0.04, 1, "0", "0.0"),
            (-0.06, 1, "-0.1", "-0.1"),
            (12.345, 1, "12.3", "12.3"),
            (0.0051, 2, "0.01", "0.01"),
            (7.02, 2, "7.02", "7.02"),
            (99.6, 0, "100", "100"),
            (f64::INFINITY, 4, "inf", "inf"),
            (1e17, 1, "100000000000000000.0", "100000000000000000.0"),
        ] {
            assert_eq!(Rounded(value, digits).to_string(), rounded);
            assert_eq!(Fixed(value, digits).to_string(), fixed);
        }
        assert_eq!(Count(u64::MAX).to_string(), "18,446,744,073,709,551,615");
        assert_eq!(Shape(&[384, 12]).to_string(), "384 × 12");
        assert_eq!(Shape(&[]).to_string(), "scalar");
    }
}
