//! The sizes of a model.

use quant::kernel::{RopeLayout, RopeOptions};
use quant_formats::GgufMetadata;

use crate::SmolError;

/// The sizes of a model, as a GGUF file has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Tokens that the model knows.
    pub vocabulary: usize,
    /// The most tokens of a sequence.
    pub context: usize,
    /// Columns of the hidden states.
    pub hidden: usize,
    /// Columns inside of the feed-forward layers.
    pub inner: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of queries in each.
    pub heads: usize,
    /// Heads of keys and of values in each, which divide those of queries.
    pub key_heads: usize,
    /// Added to the mean of squares.
    pub epsilon: f32,
    /// How positions turn queries and keys.
    pub rope: RopeOptions,
}

/// The architecture of the files that this example reads.
const ARCHITECTURE: &str = "llama";

impl Config {
    /// The sizes in the metadata of a file.
    ///
    /// # Errors
    /// A file of another architecture, or one without a size.
    pub fn read(metadata: &GgufMetadata) -> Result<Self, SmolError> {
        let architecture = metadata.text("general.architecture").unwrap_or("unnamed");
        if architecture != ARCHITECTURE {
            let found = architecture.to_owned();
            return Err(SmolError::Architecture { expected: ARCHITECTURE, found });
        }
        let size = |key: &str| {
            let key = format!("{ARCHITECTURE}.{key}");
            metadata
                .number::<usize>(&key)
                .filter(|&size| size > 0)
                .ok_or(SmolError::Metadata { key })
        };
        let (hidden, heads) = (size("embedding_length")?, size("attention.head_count")?);
        let head = hidden / heads;
        let key_heads = size("attention.head_count_kv").unwrap_or(heads);
        if !hidden.is_multiple_of(heads) || !heads.is_multiple_of(key_heads) {
            return Err(SmolError::Heads { hidden, heads, key_heads });
        }
        let theta = metadata.number("llama.rope.freq_base").unwrap_or(10_000.0);
        let turned = size("rope.dimension_count").unwrap_or(head);
        Ok(Self {
            vocabulary: metadata
                .number("llama.vocab_size")
                .or_else(|| Some(metadata.strings("tokenizer.ggml.tokens")?.len()))
                .ok_or(SmolError::Metadata { key: "llama.vocab_size".into() })?,
            context: size("context_length")?,
            hidden,
            inner: size("feed_forward_length")?,
            layers: size("block_count")?,
            heads,
            key_heads,
            epsilon: metadata.number("llama.attention.layer_norm_rms_epsilon").ok_or(
                SmolError::Metadata { key: "llama.attention.layer_norm_rms_epsilon".into() },
            )?,
            // GGUF files of this architecture have the rows of queries and keys in this order.
            rope: RopeOptions {
                theta,
                rotary_dim: turned,
                layout: RopeLayout::Pairs,
                ..RopeOptions::new(head)
            },
        })
    }

    /// Columns of one head.
    pub fn head(&self) -> usize {
        self.hidden / self.heads
    }
}
