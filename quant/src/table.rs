//! Tables with aligned columns, as plans, sensitivities and the command line print them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Writes a line for the head and for each row, with columns as wide as their widest cell; the
/// columns `numbers` are aligned right.
pub(crate) fn write<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    numbers: Range<usize>,
) -> fmt::Result {
    let rows: Vec<[String; N]> = core::iter::once(head.map(String::from)).chain(rows).collect();
    let width = |cell: &str| cell.chars().count();
    let widths = widths(N, rows.iter().map(<[String; N]>::as_slice), width);
    rows.iter().try_for_each(|row| {
        writeln!(f, "{}", line(row, &widths, |column| numbers.contains(&column), width))
    })
}

/// The width of each of `columns` columns: that of its widest cell.
fn widths<'a>(
    columns: usize,
    rows: impl Iterator<Item = &'a [String]>,
    width: impl Fn(&str) -> usize,
) -> Vec<usize> {
    let mut widths = alloc::vec![0; columns];
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    widths
}

/// A row without trailing spaces; cells where `is_number` holds are aligned right.
pub fn line(
    cells: &[String],
    widths: &[usize],
    is_number: impl Fn(usize) -> bool,
    width: impl Fn(&str) -> usize,
) -> String {
    let mut line = String::new();
    for (column, (cell, &columns)) in cells.iter().zip(widths).enumerate() {
        if column > 0 {
            line.push_str("  ");
        }
        let fill = core::iter::repeat_n(' ', columns.saturating_sub(width(cell)));
        if is_number(column) {
            line.extend(fill);
            line.push_str(cell);
        } else {
            line.push_str(cell);
            line.extend(fill);
        }
    }
    line.truncate(line.trim_end().len());
    line
}
