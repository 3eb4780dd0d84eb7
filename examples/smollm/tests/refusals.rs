//! What the model refuses, by name; and that nothing panics.

mod tiny;

use std::error::Error;

use quant::kernel::scheme::KeyValueScheme;
use quant::{Module, ModuleMapper, ParamId, Tensor};
use smollm::{
    Buffers, Generation, Llama, Logits, Sampler, Scheme, SmolError, Step, Stop, generate,
};
use tiny::{CONFIG, floats, prompt, tiny};

fn say(model: &Llama, tokens: &[u32], capacity: usize, most: usize) -> Result<Stop, SmolError> {
    let generation = Generation {
        model,
        sequence: &mut model.sequence(capacity)?,
        sampler: &mut Sampler::greedy(),
        buffers: &mut Buffers::default(),
        most,
    };
    generate(generation, tokens, |_| Ok(std::ops::ControlFlow::Continue(())))
}

/// An error and its sources.
fn chain(error: &SmolError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[test]
fn prompts_that_do_not_fit_are_errors() {
    let model = tiny(Scheme::Int8, KeyValueScheme::Int8);
    let refuse = |tokens: &[u32], capacity| chain(&say(&model, tokens, capacity, 4).unwrap_err());
    assert_eq!(refuse(&[], 8), "there are no tokens");
    assert_eq!(refuse(&prompt(1, 9), 8), "9 tokens, but the context has room for 8");
    assert_eq!(refuse(&prompt(1, 65), 1000), "65 tokens, but the context has room for 64");
    assert_eq!(
        refuse(&[1, 97], 8),
        "embedding: index 97 at position 1 is out of range; there are 97 rows"
    );
}

#[test]
fn a_sequence_ends_when_it_is_full() {
    let model = tiny(Scheme::Int8, KeyValueScheme::Int4);
    assert_eq!(say(&model, &prompt(1, 5), 8, 3).unwrap(), Stop::Most);
    assert_eq!(say(&model, &prompt(1, 5), 8, 100).unwrap(), Stop::Full);
}

/// Puts a NaN into one parameter.
struct Spoil(&'static str);

impl ModuleMapper for Spoil {
    fn map_float(&mut self, id: ParamId, tensor: Tensor) -> Tensor {
        if id.as_str() != self.0 {
            return tensor;
        }
        let mut values = tensor.values().to_vec();
        values[3] = f32::NAN;
        Tensor::from_values(tensor.shape(), values).unwrap()
    }
}

#[test]
fn a_weight_that_is_nan_is_an_error_with_a_name() {
    let spoilt = |path| floats().map(&mut Spoil(path));
    let error = Scheme::Int8.apply(spoilt("blk.1.ffn_up.weight"), KeyValueScheme::F32).unwrap_err();
    assert!(chain(&error).contains("blk.1.ffn_up.weight"), "{}", chain(&error));
    // A norm stays float: its NaN is found in the input of the next product.
    let model = Scheme::Int8.apply(spoilt("blk.1.ffn_norm.weight"), KeyValueScheme::F32).unwrap();
    let error = say(&model, &[1], 8, 1).unwrap_err();
    assert!(chain(&error).contains("blk.1.ffn_gate.input"), "{}", chain(&error));
    // Without products of integers, in the logits.
    let model = Scheme::Float.apply(spoilt("output_norm.weight"), KeyValueScheme::F32).unwrap();
    let error = say(&model, &[1, 2], 8, 1).unwrap_err();
    assert_eq!(chain(&error), "the logits at position 1 are not finite");
}

#[test]
fn ten_thousand_random_prompts_do_not_panic() {
    let models = [
        tiny(Scheme::Int8, KeyValueScheme::Int8),
        tiny(Scheme::W4a8, KeyValueScheme::Int4),
        tiny(Scheme::W4, KeyValueScheme::F32),
    ];
    let mut random = fastrand::Rng::with_seed(3);
    let mut buffers = Buffers::default();
    let mut sampler = Sampler::random(0.9, 20, 0.9, 5);
    let mut said = 0;
    for round in 0..10_000 {
        let model = &models[round % models.len()];
        let len = if random.u8(..) < 10 { random.usize(60..70) } else { random.usize(..6) };
        let tokens: Vec<u32> = (0..len)
            .map(|_| if random.u8(..) == 0 { random.u32(..) } else { random.u32(..97) })
            .collect();
        let generation = Generation {
            model,
            sequence: &mut model.sequence(random.usize(..66)).unwrap(),
            sampler: &mut sampler,
            buffers: &mut buffers,
            most: random.usize(..3),
        };
        let result = generate(generation, &tokens, |_| Ok(std::ops::ControlFlow::Continue(())));
        let fits = tokens.iter().all(|token| (*token as usize) < CONFIG.vocabulary);
        match result {
            Ok(_) => said += 1,
            Err(SmolError::Empty) => assert!(tokens.is_empty()),
            Err(SmolError::Full { tokens, capacity }) => assert!(tokens > capacity),
            Err(SmolError::Forward(error)) => assert!(!fits, "{error}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(said > 5_000, "{said}");
}

#[test]
fn a_sequence_goes_on_after_an_error() {
    let model = tiny(Scheme::Int8, KeyValueScheme::Int8);
    let (mut sequence, mut buffers) = (model.sequence(16).unwrap(), Buffers::default());
    let mut step = |tokens: &[u32]| {
        let mut steps = [Step { tokens, sequence: &mut sequence }];
        let logits = model.forward(&mut steps, Logits::Last, &mut buffers)?;
        Ok::<_, SmolError>(logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>())
    };
    step(&[1, 2, 3]).unwrap();
    assert!(step(&[200]).is_err() && step(&[]).is_err());
    let after = step(&[4]).unwrap();
    sequence.truncate(0);
    assert!(sequence.is_empty() && sequence.capacity() == 16);
    let mut steps = [Step { tokens: &[1, 2, 3, 4], sequence: &mut sequence }];
    let logits = model.forward(&mut steps, Logits::Last, &mut buffers).unwrap();
    assert!(logits.iter().map(|logit| logit.to_bits()).eq(after));
}
