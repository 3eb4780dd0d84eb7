//! `quant`: the command line for checkpoints.

mod args;
mod copy;
mod diff;
mod error;
mod generate;
mod input;
mod inspect;
mod output;
mod plan;
mod progress;
mod quantize;
mod report;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use error::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{} {failure}", console::style("error:").for_stderr().red().bold());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What a command has found out.
enum Answer {
    Yes,
    /// There is a difference, or damage: exit code 1.
    No,
}

fn run(cli: &Cli) -> Result<Answer, Failure> {
    match &cli.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Dequantize(args) => copy::dequantize(args),
        Command::Convert(args) => copy::convert(args),
        Command::Diff(args) => diff::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Report(args) => report::run(args),
        Command::Completions { shell } => generate::completions(*shell),
        Command::Man { directory } => generate::man(directory.as_deref()),
    }
}
