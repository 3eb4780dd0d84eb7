//! The command `quant`: quantize, inspect, compare and convert checkpoints.
//!
//! [`args`] defines the arguments, [`commands`] has one file for each command, and
//! [`error::Failure`] decides messages and exit codes. Start reading at [`main`].

mod args;
mod commands;
mod error;
mod input;
mod npy;
mod output;
mod progress;
mod signals;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use commands::{
    completions, convert, dequantize, diff, inspect, man, plan, quantize, report, verify,
};
use error::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error),
    };
    // What is still buffered must not be lost without an error.
    let result = run(&cli.command).and_then(|outcome| {
        io::stdout().flush()?;
        Ok(outcome)
    });
    match result {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::Difference) => ExitCode::from(1),
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(cli.command.json());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The result of a command that ran to its end.
enum Outcome {
    /// Exit code 0.
    Success,
    /// There is a difference, or damage: exit code 1.
    Difference,
}

fn run(command: &Command) -> Result<Outcome, Failure> {
    match command {
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

/// Prints the help, the version or what is wrong with the arguments.
fn print_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.render().to_string();
        let failure = Failure::usage(text.trim_end().trim_start_matches("error: "));
        failure.print(true);
        return ExitCode::from(failure.exit_code());
    }
    match error.print() {
        Err(failed) if !error.use_stderr() && failed.kind() != io::ErrorKind::BrokenPipe => {
            let failure = Failure::from(failed);
            failure.print(false);
            ExitCode::from(failure.exit_code())
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}
