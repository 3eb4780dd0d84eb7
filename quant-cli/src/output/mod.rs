//! What commands print and write: text, tables and JSON to standard output, and files.
//!
//! Everything here returns errors of the output; nothing panics. Start reading at [`table`].

mod json;
mod table;
mod text;

use std::io::{self, BufWriter, Write};
use std::path::Path;

pub(crate) use json::json;
pub(crate) use table::Table;
pub(crate) use text::{
    bytes, count, decibels, percentage, printable, printable_line, shape, value, with_short_words,
};

/// Standard output is written line by line, and a checkpoint may have very many tensors.
pub(crate) fn buffered<W: Write>(out: W) -> BufWriter<W> {
    BufWriter::with_capacity(1 << 16, out)
}

/// Replaces the content of a file, which has its old content until the new one is complete.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    quant::record::write_file(path, |writer| writer.write_all(content))
}

/// Prints a note to standard error. A note that cannot be printed is no reason to fail.
pub(crate) fn note(text: &str) {
    let title = console::style("note:").for_stderr().bold();
    let _ = writeln!(io::stderr().lock(), "{title} {}", printable(text));
}
