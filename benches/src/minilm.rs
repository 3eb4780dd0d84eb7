//! A sentence encoder end to end: 8 sequences of 128 words and 1 of 32, in floats and in integers.
//!
//! The weights are random, as time does not depend on them, unless `QUANT_MINILM` names the folder
//! of the checkpoint. `peers/onnxruntime_minilm.py` times the same in ONNX Runtime.

use std::path::Path;

use minilm::{Config, MiniLm, Tokens};
use quant::scheme::ActivationScheme;
use quant::{Module, ModuleMapper, ParamId, Recipe, Tensor};

use crate::data::Random;
use crate::measure::{Report, Subject};

const ROUNDS: usize = 15;

const CONFIG: Config = Config {
    hidden_size: 384,
    intermediate_size: 1536,
    num_hidden_layers: 6,
    num_attention_heads: 12,
    max_position_embeddings: 512,
    type_vocab_size: 2,
    vocab_size: 30522,
    layer_norm_eps: 1e-12,
};

pub(crate) fn run(report: &Report) {
    let float = model();
    for (case, batch, length) in [("8x128", 8, 128), ("1x32", 1, 32)] {
        let tokens = tokens(batch, length);
        let int8 = |activations| {
            let scheme = "per-channel-symmetric-int8".parse().expect("a scheme");
            Recipe::new().scheme(scheme).activations(activations)
        };
        let weights = |recipe: &Recipe| {
            let model = float.clone().quantize_weights(recipe.clone());
            model.expect("the weights are finite")
        };
        let dynamic = int8(ActivationScheme::DYNAMIC);
        let dynamic = weights(&dynamic).prepare(&dynamic).expect("the recipe fits");
        let fixed = int8(ActivationScheme::STATIC);
        let fixed = weights(&fixed)
            .calibrate(&fixed, [&tokens], MiniLm::forward)
            .expect("the recipe fits")
            .convert()
            .expect("every layer was reached");
        let weight_only = weights(&int8(ActivationScheme::Float));
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.expect("threads can be started");
            let subject = |name: &str, model: &MiniLm| {
                let (model, tokens, pool) = (model.clone(), &tokens, &pool);
                Subject::new(name, move || {
                    pool.install(|| drop(model.forward(tokens).expect("the words are known")));
                })
            };
            let mut subjects = [
                subject("quant f32", &float),
                subject("quant int8 dynamic", &dynamic),
                subject("quant int8 static", &fixed),
                subject("quant weight-only int8", &weight_only),
            ];
            report.rows("minilm", case, threads, ROUNDS, &mut subjects);
        }
    }
}

fn model() -> MiniLm {
    if let Some(folder) = std::env::var_os("QUANT_MINILM") {
        return minilm::load(Path::new(&folder), None).expect("the checkpoint loads");
    }
    struct Fill(Random);
    impl ModuleMapper for Fill {
        fn map_float(&mut self, _id: ParamId, tensor: Tensor) -> Tensor {
            let values = tensor.values().iter().map(|_| self.0.normal() * 0.05).collect();
            Tensor::from_values(tensor.shape(), values).expect("as many values")
        }
    }
    MiniLm::new(CONFIG).map(&mut Fill(Random(7)))
}

fn tokens(batch: usize, length: usize) -> Tokens {
    let ids = (0..batch * length).map(|i| (1000 + i * 7919 % 29_000) as u32).collect();
    Tokens { ids, lengths: vec![length; batch] }
}
