//! JSON.

use std::io::{self, Write};

use serde::Serialize;

/// What `--json` prints.
pub(crate) fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}
