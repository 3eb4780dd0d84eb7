//! `quant man`

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use crate::Outcome;
use crate::args::Cli;
use crate::error::Failure;

pub(crate) fn run(directory: Option<&Path>) -> Result<Outcome, Failure> {
    match directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            io::stdout().lock().write_all(&page)?;
        }
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory)
            .map_err(|error| Failure::file(directory, error))?,
    }
    Ok(Outcome::Success)
}
