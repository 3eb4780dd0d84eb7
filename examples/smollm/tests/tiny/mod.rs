//! A small model of random weights.

use quant::kernel::RopeOptions;
use quant::kernel::scheme::KeyValueScheme;
use quant::{Module, ModuleMapper, ParamId, Tensor};
use smollm::{Config, Llama, Scheme};

pub(crate) const CONFIG: Config = Config {
    vocabulary: 97,
    context: 64,
    hidden: 96,
    inner: 160,
    layers: 2,
    heads: 6,
    key_heads: 2,
    epsilon: 1e-5,
    rope: RopeOptions::new(16),
};

/// Those whose logits have the same bits everywhere. Products of float weights have no such order.
#[allow(dead_code)]
pub(crate) const SCHEMES: [Scheme; 3] = [Scheme::Int8, Scheme::W4a8, Scheme::W4];

struct Fill(fastrand::Rng);

impl ModuleMapper for Fill {
    fn map_float(&mut self, _id: ParamId, tensor: Tensor) -> Tensor {
        let values = tensor.values().iter().map(|_| self.0.f32() - 0.5).collect();
        Tensor::from_values(tensor.shape(), values).expect("as many values")
    }
}

pub(crate) fn floats() -> Llama {
    Llama::new(CONFIG).unwrap().map(&mut Fill(fastrand::Rng::with_seed(11)))
}

#[allow(dead_code)]
pub(crate) fn tiny(scheme: Scheme, keys_values: KeyValueScheme) -> Llama {
    scheme.apply(floats(), keys_values).unwrap()
}

/// Some tokens.
#[allow(dead_code)]
pub(crate) fn prompt(seed: u64, len: usize) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.u32(..CONFIG.vocabulary as u32)).collect()
}
