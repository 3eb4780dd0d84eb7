//! Tables that fit a terminal.

use std::borrow::Cow;
use std::io::{self, Write};

use console::{Term, style};
use quant::__private::line;

use super::{buffered, printable_line};

/// The most characters of a cell: a name may have as many as its file.
const LONGEST: usize = 200;

/// Rows of cells under a head.
pub(crate) struct Table {
    head: Vec<String>,
    /// Whether a column holds numbers, which are aligned right.
    is_number: Vec<bool>,
    rows: Vec<Row>,
}

/// There may be a row for each of many tensors, so all cells are one allocation.
struct Row {
    /// Separated by line ends, which no cell has once it is printable.
    cells: Box<str>,
    is_dim: bool,
}

impl Row {
    fn cells(&self) -> impl Iterator<Item = &str> {
        self.cells.split('\n')
    }
}

impl Table {
    /// A table whose columns hold text where the head starts with `<`, and numbers elsewhere.
    pub(crate) fn new<const N: usize>(head: [&'static str; N]) -> Self {
        let is_number = head.iter().map(|name| !name.starts_with('<')).collect();
        let head = head.iter().map(|name| name.trim_start_matches('<').to_owned()).collect();
        Self { head, is_number, rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells, false);
    }

    /// Adds a secondary row, which is dimmed.
    pub(crate) fn dim_row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells, true);
    }

    fn push<const N: usize>(&mut self, cells: [String; N], is_dim: bool) {
        let mut text = String::new();
        for (column, cell) in cells.iter().enumerate() {
            if column > 0 {
                text.push('\n');
            }
            text.push_str(&shortened(&printable_line(cell), LONGEST));
        }
        self.rows.push(Row { cells: text.into(), is_dim });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the table; on a terminal, texts are shortened so that rows fit.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let widths = self.fitted();
        let mut out = buffered(out);
        if self.head.iter().any(|name| !name.is_empty()) {
            let head = self.head.iter().map(String::as_str);
            writeln!(out, "{}", style(self.line(head, &widths)).bold())?;
        }
        for row in &self.rows {
            let line = self.line(row.cells(), &widths);
            if row.is_dim {
                writeln!(out, "{}", style(line).dim())?;
            } else {
                writeln!(out, "{line}")?;
            }
        }
        out.flush()
    }

    /// The width of each column, reduced to those of a terminal.
    fn fitted(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.head.iter().map(|name| width_of(name)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row.cells()) {
                *width = width_of(cell).max(*width);
            }
        }
        match Term::stdout().size_checked() {
            Some((_, columns)) => self.reduced(widths, usize::from(columns)),
            None => widths,
        }
    }

    fn reduced(&self, mut widths: Vec<usize>, columns: usize) -> Vec<usize> {
        const LEAST: usize = 12;
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        while total(&widths) > columns {
            let texts = (0..widths.len()).filter(|&i| !self.is_number[i] && widths[i] > LEAST);
            let Some(widest) = texts.max_by_key(|&i| widths[i]) else { break };
            widths[widest] -= 1;
        }
        widths
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>, columns: &[usize]) -> String {
        let fit = |(cell, &width): (&str, &usize)| shortened(cell, width).into_owned();
        let cells: Vec<String> = cells.zip(columns).map(fit).collect();
        line(&cells, columns, |column| self.is_number[column], width_of)
    }
}

/// The columns that a text takes. Most texts are ASCII, and printable.
fn width_of(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { console::measure_text_width(text) }
}

/// The text in at most `width` columns: the end is kept, which tells names apart.
fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    if width_of(text) <= width {
        return Cow::Borrowed(text);
    }
    let indent = text.chars().take_while(|&c| c == ' ').count().min(width);
    let keep = width.saturating_sub(indent + 1);
    let skip = text.chars().count().saturating_sub(keep);
    let end: String = text.chars().skip(skip).collect();
    Cow::Owned(format!("{}…{end}", &text[..indent]))
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

    #[test]
    fn columns_of_text_are_reduced_to_the_terminal() {
        let mut table = Table::new(["<tensor", "size"]);
        table.row(["encoder.layer.0.weight".into(), "1".into()]);
        assert_eq!(table.reduced(vec![22, 4], 20), [14, 4]);
        assert_eq!(table.reduced(vec![22, 4], 5), [12, 4]);
    }
}
