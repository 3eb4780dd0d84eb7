//! A language model of the Llama family, as a user of the crates writes it.
//!
//! `model.rs` is the model; start reading there. `load.rs` makes it from a GGUF file, `save.rs` keeps it
//! as a record, `tokens.rs` makes tokens of text, `generate.rs` and `sampling.rs` continue a text, and
//! `quality.rs` compares a quantized model with its floats.

mod config;
mod error;
mod generate;
mod load;
mod model;
mod quality;
mod sampling;
mod save;
mod sequence;
mod tokens;

pub use config::Config;
pub use error::SmolError;
pub use generate::{Generation, Stop, generate};
pub use load::{Checkpoint, Scheme};
pub use model::{Llama, Logits};
pub use quality::{Quality, WINDOW, compare, perplexity};
pub use sampling::Sampler;
pub use save::Saved;
pub use sequence::{Buffers, Sequence, Step};
pub use tokens::{Message, Tokenizer};
