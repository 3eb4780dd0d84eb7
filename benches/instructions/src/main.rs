//! Counts the instructions of fixed jobs under valgrind, and compares them with `record.txt`.
//!
//! ```text
//! cargo run --release -p instructions              # fails where a job grew by more than 3 %
//! cargo run --release -p instructions -- --record  # writes the record anew
//! ```
//!
//! Instruction counts repeat where times do not, so a small loss of speed is found on a loaded
//! machine. A change that needs more instructions renews the record in the same commit. Valgrind
//! has no AVX-512 and no AVX-VNNI: only the kernels `scalar` and `avx2` are counted, on one thread.
//! `callgrind_annotate` shows which functions the counts in `target/instructions` are of.

mod jobs;
mod record;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs, io};

use jobs::JOBS;
use record::Record;

const KERNELS: [&str; 2] = ["scalar", "avx2"];

/// By how much a count may grow before the record has to be renewed.
const TOLERANCE: f64 = 0.03;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => compare(),
        ["--record"] => renew(),
        ["--job", name] => run(name),
        _ => Err("usage: instructions [--record]".into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Compares the counts of this build with those on record.
fn compare() -> Result<ExitCode, Box<dyn Error>> {
    let recorded = Record::parse(&fs::read_to_string(record_path())?)?;
    if recorded.rustc != env!("INSTRUCTIONS_RUSTC") {
        let (then, now) = (&recorded.rustc, env!("INSTRUCTIONS_RUSTC"));
        return Err(format!("the record is of rustc {then}, and this is built with {now}").into());
    }
    let counted = count_all()?;
    let mut grown = false;
    for (kernel, job, change) in recorded.changes(&counted) {
        grown |= change.exceeds(TOLERANCE);
        println!("{kernel:6} {job:20} {change}");
    }
    if grown {
        eprintln!(
            "A job takes over 3 % more instructions than on record, or is not the same job. Find \
             the cause with `callgrind_annotate target/instructions/KERNEL.JOB`, or renew the \
             record with `cargo run --release -p instructions -- --record`."
        );
    }
    Ok(if grown { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn renew() -> Result<ExitCode, Box<dyn Error>> {
    let counted = count_all()?;
    fs::write(record_path(), counted.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn count_all() -> Result<Record, Box<dyn Error>> {
    let directory = target_directory()?.join("instructions");
    fs::create_dir_all(&directory)?;
    let mut counted = Record::new(env!("INSTRUCTIONS_RUSTC"));
    for kernel in KERNELS {
        if !jobs::has_kernel(kernel) {
            eprintln!("{kernel}: this CPU lacks it");
            continue;
        }
        for (job, _) in JOBS {
            counted.insert(kernel, job, count(kernel, job, &directory)?);
        }
    }
    Ok(counted)
}

/// Runs a job in a process of its own under valgrind.
fn count(kernel: &str, job: &str, directory: &Path) -> Result<u64, Box<dyn Error>> {
    let profile = directory.join(format!("{kernel}.{job}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*::counted_call*"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe()?)
        .args(["--job", job])
        .env("QUANT_KERNEL", kernel)
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{kernel} {job}: {}\n{messages}", output.status).into());
    }
    let profile = fs::read_to_string(profile)?;
    let count = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    count.and_then(|count| count.parse().ok()).ok_or_else(|| "callgrind: no total".into())
}

/// Runs a job twice and shows valgrind the second time, when lazy initialization is over.
fn run(name: &str) -> Result<ExitCode, Box<dyn Error>> {
    let (_, prepare) = JOBS.iter().find(|(job, _)| *job == name).ok_or("no such job")?;
    let mut job = prepare();
    job();
    counted_call(&mut job);
    Ok(ExitCode::SUCCESS)
}

/// The call that valgrind counts, which knows it by its name.
#[inline(never)]
fn counted_call(job: &mut jobs::Job) {
    job();
}

fn record_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("record.txt")
}

/// The folder that cargo builds in: this program is in `target/PROFILE`.
fn target_directory() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    Ok(program.ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf())
}
