//! The model. Fields are renamed where the checkpoint has other names.

use ndarray::{Array2, ArrayD, Axis, IxDyn, s};
use quant::Module;
use quant_nn::{Backend, Embedding, ForwardError, LayerNorm, Linear, Unary, attention};
use serde::Deserialize;

/// The numbers in a checkpoint's `config.json`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Config {
    /// Columns of the hidden states.
    pub hidden_size: usize,
    /// Columns inside of the feed-forward layers.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of attention in each.
    pub num_attention_heads: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Segments.
    pub type_vocab_size: usize,
    /// Words.
    pub vocab_size: usize,
    /// Added to variances.
    pub layer_norm_eps: f32,
}

/// Sequences of words, one after the other; there is no padding.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// The words of all sequences.
    pub ids: Vec<u32>,
    /// The number of words of each.
    pub lengths: Vec<usize>,
}

/// The encoder.
#[derive(Clone, Debug, Module)]
pub struct MiniLm {
    embeddings: Embeddings,
    #[module(rename = "encoder.layer")]
    layers: Vec<Layer>,
}

#[derive(Clone, Debug, Module)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    #[module(rename = "LayerNorm")]
    norm: LayerNorm,
}

#[derive(Clone, Debug, Module)]
struct Layer {
    #[module(rename = "attention.self.query")]
    query: Linear,
    #[module(rename = "attention.self.key")]
    key: Linear,
    #[module(rename = "attention.self.value")]
    value: Linear,
    #[module(rename = "attention.output.dense")]
    attention: Linear,
    #[module(rename = "attention.output.LayerNorm")]
    attention_norm: LayerNorm,
    #[module(rename = "intermediate.dense")]
    up: Linear,
    #[module(rename = "output.dense")]
    down: Linear,
    #[module(rename = "output.LayerNorm")]
    norm: LayerNorm,
    heads: usize,
}

impl MiniLm {
    /// A model of the right shape, without weights yet.
    pub fn new(config: Config) -> Self {
        let Config { hidden_size: hidden, vocab_size, num_hidden_layers, .. } = config;
        Self {
            embeddings: Embeddings {
                word_embeddings: embedding(vocab_size, hidden),
                position_embeddings: embedding(config.max_position_embeddings, hidden),
                token_type_embeddings: embedding(config.type_vocab_size, hidden),
                norm: norm(config),
            },
            layers: (0..num_hidden_layers).map(|_| Layer::new(config)).collect(),
        }
    }

    /// The embedding of each sequence, `[sequences, hidden]`, of length 1.
    ///
    /// # Errors
    /// A word that the model does not know, or what the layers refuse.
    pub fn forward(&self, tokens: &Tokens) -> Result<Array2<f32>, ForwardError> {
        let mut hidden = self.embeddings.forward(tokens)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &tokens.lengths)?;
        }
        Ok(mean_of_each(&hidden, &tokens.lengths))
    }
}

impl Embeddings {
    fn forward(&self, tokens: &Tokens) -> Result<ArrayD<f32>, ForwardError> {
        let positions: Vec<u32> =
            tokens.lengths.iter().flat_map(|&length| 0..length as u32).collect();
        let segments = vec![0; tokens.ids.len()];
        let words = self.word_embeddings.forward(&tokens.ids)?
            + self.token_type_embeddings.forward(&segments)?
            + self.position_embeddings.forward(&positions)?;
        self.norm.forward(&words)
    }
}

impl Layer {
    fn new(config: Config) -> Self {
        let Config { hidden_size: hidden, intermediate_size: inner, .. } = config;
        Self {
            query: linear(hidden, hidden),
            key: linear(hidden, hidden),
            value: linear(hidden, hidden),
            attention: linear(hidden, hidden),
            attention_norm: norm(config),
            up: linear(hidden, inner),
            down: linear(inner, hidden),
            norm: norm(config),
            heads: config.num_attention_heads,
        }
    }

    fn forward(&self, x: &ArrayD<f32>, lengths: &[usize]) -> Result<ArrayD<f32>, ForwardError> {
        let (q, k) = (self.query.forward(x)?, self.key.forward(x)?);
        let seen = attention(&q, &k, &self.value.forward(x)?, self.heads, lengths)?;
        let x = self.attention_norm.forward(&(self.attention.forward(&seen)? + x))?;
        let inner = ArrayD::unary(self.up.forward(&x)?, Unary::Gelu)?;
        self.norm.forward(&(self.down.forward(&inner)? + &x))
    }
}

/// The mean of the rows of each sequence, scaled to length 1.
fn mean_of_each(hidden: &ArrayD<f32>, lengths: &[usize]) -> Array2<f32> {
    let mut means = Array2::zeros((lengths.len(), hidden.len_of(Axis(1))));
    let mut start = 0;
    for (&length, mut mean) in lengths.iter().zip(means.rows_mut()) {
        for row in hidden.slice(s![start..start + length, ..]).rows() {
            mean += &row;
        }
        // A factor before it makes no difference: the length becomes 1.
        let norm = mean.dot(&mean).sqrt();
        mean /= norm.max(f32::MIN_POSITIVE);
        start += length;
    }
    means
}

fn zeros(shape: &[usize]) -> ArrayD<f32> {
    ArrayD::zeros(IxDyn(shape))
}

fn linear(inputs: usize, outputs: usize) -> Linear {
    Linear::new(zeros(&[outputs, inputs]), Some(zeros(&[outputs]))).expect("the shapes fit")
}

fn embedding(rows: usize, columns: usize) -> Embedding {
    Embedding::new(zeros(&[rows, columns])).expect("two axes")
}

fn norm(config: Config) -> LayerNorm {
    let shape = [config.hidden_size];
    LayerNorm::new(zeros(&shape), zeros(&shape), config.layer_norm_eps)
}
