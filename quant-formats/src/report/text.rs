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
        use fmt::Write;
        for (position, c) in self.0.chars().enumerate() {
            match c {
                _ if position == LONGEST => return f.write_char('…'),
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() || is_invisible(c) => f.write_char('\u{FFFD}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A name in an element, as [`Text`], with possible line breaks after dots and underscores.
pub(super) struct Path<'a>(pub(super) &'a str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<bdi>{}</bdi>",
            Text(self.0).to_string().replace('.', ".<wbr>").replace('_', "_<wbr>")
        )
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
        let text = match magnitude {
            0.0 => return f.write_str("0"),
            ..0.001 | 10_000.0.. => format!("{:.2e}", self.0),
            ..0.01 => format!("{:.5}", self.0),
            ..0.1 => format!("{:.4}", self.0),
            ..1.0 => format!("{:.3}", self.0),
            ..10.0 => format!("{:.2}", self.0),
            ..100.0 => format!("{:.1}", self.0),
            _ => format!("{:.0}", self.0),
        };
        f.write_str(&text.replace('-', "\u{2212}"))
    }
}

/// A ratio in dB.
pub(super) fn decibels(db: f64) -> String {
    format!("{db:.1}\u{A0}dB")
}

/// A count, in groups of three digits.
pub(super) struct Count(pub(super) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
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
        assert_eq!(Shape(&[384, 12]).to_string(), "384 × 12");
        assert_eq!(Shape(&[]).to_string(), "scalar");
    }
}
