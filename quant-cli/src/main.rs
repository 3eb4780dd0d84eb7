//! `quant`: the command line for checkpoints.

mod args;
mod commands;
mod error;
mod input;
mod output;
mod progress;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use commands::{
    completions, convert, dequantize, diff, inspect, man, plan, quantize, report, verify,
};
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
        Command::Dequantize(args) => dequantize::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Report(args) => report::run(args),
        Command::Completions { shell } => completions::run(*shell),
        Command::Man { directory } => man::run(directory.as_deref()),
    }
}
