//! JSON documents.

use std::io::{self, Write};

use serde::Serialize;

use super::buffered;

/// Writes one document, as `--json` prints it.
pub(crate) fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut out = buffered(out);
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}
