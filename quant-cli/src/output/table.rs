//! Tables that fit a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use console::{Term, measure_text_width, style};

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
    fn long_names_lose_their_start() {
        assert_eq!(shortened("encoder.layer.0.weight", 10), "….0.weight");
        assert_eq!(shortened("  encoder.weight", 9), "  …weight");
        assert_eq!(shortened("weight", 6), "weight");
    }
}
