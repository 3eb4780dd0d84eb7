//! The model. Fields are renamed to the names of GGUF files.

use ndarray::{ArrayD, IxDyn};
use quant::Module;
use quant::activation::{ActivationQuantizer, KeyValueQuantizer};
use quant::kernel::{KeyValueCache, KeyValueShape, Rope};
use quant_nn::{Embedding, ForwardError, Linear, RmsNorm};

use crate::{Buffers, Config, Sequence, SmolError, Step};

/// A language model.
#[derive(Clone, Debug, Module)]
pub struct Llama {
    /// Rows of the embedding, and outputs of the head.
    #[module(rename = "token_embd")]
    pub(crate) tokens: Embedding,
    #[module(rename = "blk")]
    pub(crate) layers: Vec<Layer>,
    #[module(rename = "output_norm")]
    norm: RmsNorm,
    #[module(rename = "output.input")]
    pub(crate) head_input: ActivationQuantizer,
    #[module(skip)]
    rope: Rope,
    #[module(skip)]
    config: Config,
}

#[derive(Clone, Debug, Module)]
pub(crate) struct Layer {
    #[module(rename = "attn_norm")]
    attention_norm: RmsNorm,
    #[module(rename = "attn_q")]
    query: Linear,
    #[module(rename = "attn_k")]
    key: Linear,
    #[module(rename = "attn_v")]
    value: Linear,
    #[module(rename = "attn_output")]
    attention: Linear,
    #[module(rename = "ffn_norm")]
    norm: RmsNorm,
    #[module(rename = "ffn_gate")]
    gate: Linear,
    #[module(rename = "ffn_up")]
    up: Linear,
    #[module(rename = "ffn_down")]
    down: Linear,
    /// How keys and values are kept.
    keys_values: KeyValueQuantizer,
    heads: usize,
    key_heads: usize,
}

/// Which tokens are given logits for their successors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// The last one of each step.
    Last,
    /// All.
    All,
}

impl Llama {
    /// A model of the right shape, without weights yet.
    ///
    /// # Errors
    /// Sizes that the rotary embedding refuses.
    pub fn new(config: Config) -> Result<Self, SmolError> {
        Ok(Self {
            tokens: Embedding::new(zeros(&[config.vocabulary, config.hidden])).expect("two axes"),
            layers: (0..config.layers).map(|_| Layer::new(&config)).collect(),
            norm: RmsNorm::new(zeros(&[config.hidden]), config.epsilon),
            head_input: ActivationQuantizer::new(),
            rope: Rope::new(config.rope).map_err(SmolError::Rope)?,
            config,
        })
    }

    /// The sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// An empty sequence with room for `capacity` tokens, at most those of the context.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn sequence(&self, capacity: usize) -> Result<Sequence, SmolError> {
        let (heads, head_dim) = (self.config.key_heads, self.config.head());
        let capacity = capacity.min(self.config.context);
        let shape = KeyValueShape { heads, head_dim, capacity };
        let cache = |layer: &Layer| KeyValueCache::new(shape, layer.keys_values.scheme());
        let caches: Result<_, _> = self.layers.iter().map(cache).collect();
        Ok(Sequence { caches: caches.map_err(SmolError::Memory)?, capacity })
    }

    /// Continues each sequence by new tokens. Gives the logits, `[tokens, vocabulary]`, of the tokens that
    /// `wanted` says.
    ///
    /// # Errors
    /// A step without tokens, a sequence without room, a token that the model does not know, or what the
    /// layers refuse. Sequences have then to be [truncated](Sequence::truncate).
    pub fn forward<'b>(
        &self,
        steps: &mut [Step<'_>],
        wanted: Logits,
        buffers: &'b mut Buffers,
    ) -> Result<&'b mut ArrayD<f32>, SmolError> {
        buffers.start(steps)?;
        self.rope.angles(&buffers.positions, &mut buffers.angles).map_err(SmolError::Rope)?;
        self.tokens.forward_into(&buffers.tokens, &mut buffers.hidden)?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.forward(index, steps, &self.rope, buffers)?;
        }
        let ends = steps.iter().scan(0, |end, step| {
            *end += step.tokens.len();
            Some(*end - 1)
        });
        if wanted == Logits::Last {
            quant_nn::keep_rows(&mut buffers.hidden, ends)?;
        }
        self.norm.forward_into(&buffers.hidden, &mut buffers.normed)?;
        let (weight, input) = (&self.tokens.weight, &self.head_input);
        quant_nn::linear_into(&buffers.normed, weight, None, input, &mut buffers.logits)?;
        Ok(&mut buffers.logits)
    }
}

impl Layer {
    pub(crate) fn new(&Config { hidden, inner, heads, key_heads, epsilon, .. }: &Config) -> Self {
        let keys = hidden / heads * key_heads;
        Self {
            attention_norm: RmsNorm::new(zeros(&[hidden]), epsilon),
            query: linear(hidden, hidden),
            key: linear(hidden, keys),
            value: linear(hidden, keys),
            attention: linear(hidden, hidden),
            norm: RmsNorm::new(zeros(&[hidden]), epsilon),
            gate: linear(hidden, inner),
            up: linear(hidden, inner),
            down: linear(inner, hidden),
            keys_values: KeyValueQuantizer::new(),
            heads,
            key_heads,
        }
    }

    pub(crate) fn products(&mut self) -> [&mut Linear; 7] {
        let Self { query, key, value, attention, gate, up, down, .. } = self;
        [query, key, value, attention, gate, up, down]
    }

    fn forward(
        &self,
        index: usize,
        steps: &mut [Step<'_>],
        rope: &Rope,
        Buffers { angles, hidden, normed, qkv, inner, .. }: &mut Buffers,
    ) -> Result<(), ForwardError> {
        self.attention_norm.forward_into(hidden, normed)?;
        let [q, k, v] = &mut *qkv;
        Linear::forward_all([&self.query, &self.key, &self.value], normed, [q, k, v])?;
        quant_nn::rope(q, self.heads, rope, angles)?;
        quant_nn::rope(k, self.key_heads, rope, angles)?;
        let caches =
            steps.iter_mut().map(|step| (step.tokens.len(), &mut step.sequence.caches[index]));
        quant_nn::causal_attention_into([q, k, v], self.heads, caches, normed)?;
        self.attention.forward_into(normed, q)?;
        *hidden += &*q;

        self.norm.forward_into(hidden, normed)?;
        let [gate, up] = inner;
        Linear::forward_all([&self.gate, &self.up], normed, [gate, up])?;
        quant_nn::swiglu(gate, up)?;
        self.down.forward_into(gate, normed)?;
        *hidden += &*normed;
        Ok(())
    }
}

fn zeros(shape: &[usize]) -> ArrayD<f32> {
    ArrayD::zeros(IxDyn(shape))
}

fn linear(inputs: usize, outputs: usize) -> Linear {
    Linear::new(zeros(&[outputs, inputs]), None).expect("a matrix without bias")
}
