//! `quant completions`

use std::io::{self, Write};

use clap::CommandFactory;

use crate::Outcome;
use crate::args::Cli;
use crate::error::Failure;

pub(crate) fn run(shell: clap_complete::Shell) -> Result<Outcome, Failure> {
    // The generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "quant", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Outcome::Success)
}
