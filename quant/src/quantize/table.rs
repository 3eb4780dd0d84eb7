//! Tables as plans and sensitivities print them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Writes a line for the head and for each row, with columns as wide as their widest cell; the
/// columns `numbers` are flush right.
pub(super) fn write<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    numbers: Range<usize>,
) -> fmt::Result {
    let rows: Vec<[String; N]> = core::iter::once(head.map(String::from)).chain(rows).collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = core::array::from_fn(width);
    for row in &rows {
        for (i, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let gap = if i == 0 { "" } else { "  " };
            if numbers.contains(&i) {
                write!(f, "{gap}{cell:>width$}")?;
            } else if i + 1 < N {
                write!(f, "{gap}{cell:<width$}")?;
            } else {
                // Nothing follows that would have to be in line.
                write!(f, "{gap}{cell}")?;
            }
        }
        writeln!(f)?;
    }
    Ok(())
}
