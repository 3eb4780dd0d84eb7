//! `bench-candle-lm FILE THREADS`: tokens per second of prefill (512) and of decoding (128 after them),
//! and the seconds to the first token, as `benches lm` reads them.
//!
//! ```text
//! RUSTFLAGS="-C target-cpu=native" cargo build --release --manifest-path benches/peers/candle/Cargo.toml
//! QUANT_CANDLE_LM=benches/peers/candle/target/release/bench-candle-lm cargo run --release -p benches -- lm
//! ```

use std::time::Instant;

use candle_core::quantized::gguf_file;
use candle_core::{Device, Result, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

const PROMPT: usize = 512;
const ANSWER: usize = 128;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, threads] = &*arguments else { panic!("a file and a number of threads") };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.parse().expect("a number"))
        .build_global()
        .expect("threads can be started");
    let mut reader = std::fs::File::open(file)?;
    let content = gguf_file::Content::read(&mut reader)?;
    let mut model = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
    let prompt: Vec<u32> = (0..PROMPT).map(|i| (1000 + i * 7919 % 48_000) as u32).collect();
    let mut step = |tokens: &[u32], position: usize| -> Result<()> {
        let tokens = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = model.forward(&tokens, position)?.flatten_all()?;
        assert!(logits.get(0)?.to_scalar::<f32>()?.is_finite());
        Ok(())
    };
    let (mut prefill, mut decode, mut first) = (0.0f64, 0.0f64, f64::INFINITY);
    for _ in 0..2 {
        let start = Instant::now();
        step(&prompt, 0)?;
        let seconds = start.elapsed().as_secs_f64();
        let start = Instant::now();
        for i in 0..ANSWER {
            step(&prompt[i..i + 1], PROMPT + i)?;
        }
        prefill = prefill.max(PROMPT as f64 / seconds);
        decode = decode.max(ANSWER as f64 / start.elapsed().as_secs_f64());
        first = first.min(seconds);
    }
    println!("{prefill} {decode} {first}");
    Ok(())
}
