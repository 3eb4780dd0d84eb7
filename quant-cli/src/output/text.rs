//! Numbers and names as text for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

use quant::quantize::ByteSize;
use quant_formats::__private::is_invisible;

/// `86.7 MB`
pub(crate) fn bytes(count: u64) -> String {
    ByteSize(count).to_string()
}

/// `22.7 M`
pub(crate) fn count(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{:.1} k", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.2} G", count as f64 / 1e9),
    }
}

/// `25.3 %`
pub(crate) fn percentage(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "100 %".into();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// `384×1536`
pub(crate) fn shape(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// `31.2 dB`, or `exact` without an error.
pub(crate) fn decibels(sqnr: Option<f64>) -> String {
    sqnr.map_or("exact".into(), |db| format!("{db:.1} dB"))
}

/// Three significant digits, in as few characters as that takes.
pub(crate) fn value(value: f32) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v.is_finite() && !(1e-3..1e5).contains(&v) => format!("{value:.2e}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A text that may hold names from a file, with escapes for what a terminal would execute or
/// would not show. Line ends are kept.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && is_escaped(c))
}

/// As [`printable`], in one line.
pub(crate) fn printable_line(text: &str) -> Cow<'_, str> {
    escape(text, is_escaped)
}

/// A text in which words, such as names of a file, are not longer than a few lines: of a longer one, the
/// start and the end are kept.
pub(crate) fn with_short_words(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 400;
    const KEPT: usize = 150;
    if text.split_whitespace().all(|word| word.len() <= LONGEST) {
        return Cow::Borrowed(text);
    }
    let short = |piece: &str| match piece.char_indices().nth(KEPT) {
        Some((start, _)) if piece.len() > LONGEST => {
            let end = piece.char_indices().nth_back(KEPT - 1).map_or(start, |(end, _)| end);
            format!("{}…{}", &piece[..start], &piece[end.max(start)..])
        }
        _ => piece.to_owned(),
    };
    text.split_inclusive(char::is_whitespace).map(short).collect()
}

fn is_escaped(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "{}", c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_a_terminal_would_execute_or_hide_is_escaped() {
        assert_eq!(printable("layers.0.wéight"), "layers.0.wéight");
        assert_eq!(printable("\u{1b}[2J\u{202e}a\nb"), "\\u{1b}[2J\\u{202e}a\nb");
        assert_eq!(printable_line("a\nb\u{200b}"), "a\\nb\\u{200b}");
    }

    #[test]
    fn long_words_keep_their_start_and_their_end() {
        assert_eq!(with_short_words("a few words"), "a few words");
        let name = format!("a{}z", "é.".repeat(100_000));
        let short = with_short_words(&format!("model: {name}: is not finite\n")).into_owned();
        assert!(short.len() < 700 && short.starts_with("model: aé."), "{short}");
        assert!(short.ends_with(".z: is not finite\n") && short.contains('…'), "{short}");
    }

    #[test]
    fn values_have_three_significant_digits() {
        for (number, expected) in
            [(0.0, "0"), (-1.0, "-1.00"), (0.25, "0.250"), (12.34, "12.3"), (1e-5, "1.00e-5")]
        {
            assert_eq!(value(number), expected);
        }
    }
}
