//! `quant completions`

use std::io;

use clap::CommandFactory;

use crate::Answer;
use crate::args::Cli;
use crate::error::Failure;

pub(crate) fn run(shell: clap_complete::Shell) -> Result<Answer, Failure> {
    clap_complete::generate(shell, &mut Cli::command(), "quant", &mut io::stdout().lock());
    Ok(Answer::Yes)
}
