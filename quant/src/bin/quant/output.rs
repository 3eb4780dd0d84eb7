//! Numbers and tables that fit a terminal.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use console::{Term, measure_text_width, style};
use serde::Serialize;

use crate::error::Failure;

/// What `--json` prints.
pub(crate) fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// `86.7 MiB`
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if value < 10.0 => format!("{value:.2} {}", UNITS[unit]),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
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

/// `384×1536`
pub(crate) fn shape(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// `31.2 dB`
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

/// Reads a number of bytes: `256MiB`, `1.5GB`, `1000000`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 10] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("kB", 1e3),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("K", 1024.0),
        ("M", 1_048_576.0),
        ("G", 1_073_741_824.0),
    ];
    let found = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = found.unwrap_or((text.strip_suffix('B').unwrap_or(text), 1.0));
    let number: f64 = number.trim().parse().map_err(|_| SIZE)?;
    let bytes = number * factor;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(SIZE.into()) }
}

const SIZE: &str = "a size is a number with a unit, such as 256MiB, 1.5GB or 1000000";

/// Gives a file this content: the old one, or none, is there until the new one is complete.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The reason for being here matters more than that this may fail.
        let _ = fs::remove_file(&temporary);
        Failure::file(path, error)
    })
}

/// Rows of cells under a head.
pub(crate) struct Table {
    head: Vec<&'static str>,
    /// Whether a column is a text, and not a number.
    text: Vec<bool>,
    rows: Vec<Row>,
}

struct Row {
    cells: Vec<String>,
    dim: bool,
}

impl Table {
    /// A table whose columns are texts where the head starts with `<`, and numbers elsewhere.
    pub(crate) fn new<const N: usize>(head: [&'static str; N]) -> Self {
        let text = head.iter().map(|name| name.starts_with('<')).collect();
        let head = head.iter().map(|name| name.trim_start_matches('<')).collect();
        Self { head, text, rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells, false);
    }

    /// A row that is not of the first interest.
    pub(crate) fn dim_row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells, true);
    }

    fn push<const N: usize>(&mut self, cells: [String; N], dim: bool) {
        // A name from a file may hold anything; what a terminal takes for a command is not printed.
        let clean = |cell: String| cell.replace(|c: char| c.is_control(), "\u{fffd}");
        self.rows.push(Row { cells: cells.into_iter().map(clean).collect(), dim });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the table; on a terminal, texts are cut so that rows fit.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let widths = self.fitted();
        if self.head.iter().any(|name| !name.is_empty()) {
            let head: Vec<String> = self.head.iter().map(|&name| name.to_owned()).collect();
            writeln!(out, "{}", style(self.line(&head, &widths)).bold())?;
        }
        for row in &self.rows {
            let line = self.line(&row.cells, &widths);
            if row.dim { writeln!(out, "{}", style(line).dim())? } else { writeln!(out, "{line}")? }
        }
        Ok(())
    }

    /// The width of each column.
    fn fitted(&self) -> Vec<usize> {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|row| measure_text_width(&row.cells[i]));
            cells.max().unwrap_or(0).max(measure_text_width(self.head[i]))
        };
        let mut widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let Some((_, columns)) = Term::stdout().size_checked() else { return widths };
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        const LEAST: usize = 12;
        while total(&widths) > usize::from(columns) {
            let texts = (0..widths.len()).filter(|&i| self.text[i] && widths[i] > LEAST);
            let Some(widest) = texts.max_by_key(|&i| widths[i]) else { break };
            widths[widest] -= 1;
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (i, (cell, &width)) in cells.iter().zip(widths).enumerate() {
            let gap = if i > 0 { "  " } else { "" };
            let cell = shortened(cell, width);
            let fill = " ".repeat(width.saturating_sub(measure_text_width(&cell)));
            let _ = if self.text[i] {
                write!(line, "{gap}{cell}{fill}")
            } else {
                write!(line, "{gap}{fill}{cell}")
            };
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The text in at most `width` columns: its end is what tells names apart.
fn shortened(text: &str, width: usize) -> String {
    let len = measure_text_width(text);
    if len <= width {
        return text.to_owned();
    }
    let indent = text.len() - text.trim_start().len();
    let keep = width.saturating_sub(indent + 1);
    let skip = text.chars().count().saturating_sub(keep);
    let end: String = text.chars().skip(skip).collect();
    format!("{}…{end}", &text[..indent])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, expected) in [
            ("256MiB", 256 << 20),
            ("1.5GB", 1_500_000_000),
            ("1000", 1000),
            ("7B", 7),
            ("2K", 2048),
            (" 3 MB", 3_000_000),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "MiB", "-1", "nan", "1e30GB", "0"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn long_names_lose_their_start() {
        assert_eq!(shortened("encoder.layer.0.weight", 10), "….0.weight");
        assert_eq!(shortened("  encoder.weight", 9), "  …weight");
        assert_eq!(shortened("weight", 6), "weight");
    }
}
