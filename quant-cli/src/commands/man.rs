//! `quant man`

use std::io;
use std::path::Path;

use clap::CommandFactory;

use crate::Answer;
use crate::args::Cli;
use crate::error::Failure;

pub(crate) fn run(directory: Option<&Path>) -> Result<Answer, Failure> {
    match directory {
        None => clap_mangen::Man::new(Cli::command()).render(&mut io::stdout().lock())?,
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory)
            .map_err(|error| Failure::file(directory, error))?,
    }
    Ok(Answer::Yes)
}
