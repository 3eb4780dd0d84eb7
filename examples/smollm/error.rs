//! Why a model cannot be loaded or run.

use std::fmt;

use quant::RecordError;
use quant::kernel::{AttentionError, RopeError};
use quant::module::MapError;
use quant_nn::ForwardError;

use crate::Saved;

/// A model cannot be loaded or run.
#[derive(Debug)]
#[non_exhaustive]
pub enum SmolError {
    /// The file is not GGUF, or not made of one.
    NotGguf,
    /// The file holds a model of another architecture.
    Architecture {
        /// The one that this example runs.
        expected: &'static str,
        /// That of the file.
        found: String,
    },
    /// The metadata lacks a value, or has one of another kind.
    Metadata {
        /// The key.
        key: String,
    },
    /// The numbers of heads do not divide each other.
    Heads {
        /// Columns of the hidden states.
        hidden: usize,
        /// Heads of queries.
        heads: usize,
        /// Heads of keys.
        key_heads: usize,
    },
    /// A sequence without new tokens.
    Empty,
    /// More tokens than the sequence has room for.
    Full {
        /// Tokens with the new ones.
        tokens: usize,
        /// The most that it holds.
        capacity: usize,
    },
    /// The model gives no number for the next token.
    NotFinite {
        /// The position in the sequence.
        position: usize,
    },
    /// Fewer tokens than a comparison needs.
    Short {
        /// Those of the text.
        tokens: usize,
        /// The least number.
        least: usize,
    },
    /// A saved model cannot be quantized again.
    OtherScheme {
        /// How it was saved.
        saved: Saved,
        /// How it was to be quantized.
        wanted: Saved,
    },
    /// The file cannot be read.
    File(RecordError),
    /// The model cannot be saved.
    Save(RecordError),
    /// A layer cannot run.
    Forward(ForwardError),
    /// Keys and values cannot be kept.
    Memory(AttentionError),
    /// The rotary embedding refuses sizes or positions.
    Rope(RopeError),
    /// The weights cannot be quantized.
    Quantize(quant::QuantizeError),
    /// A weight cannot be quantized.
    Weight(MapError<quant::QuantizeError>),
    /// The tokenizer or the template refuses.
    Text(Box<dyn std::error::Error + Send + Sync>),
    /// The logits cannot be compared.
    Metrics(quant::metrics::LogitsError),
}

impl fmt::Display for SmolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGguf => f.write_str("the file has no metadata of GGUF"),
            Self::Architecture { expected, found } => {
                write!(f, "the architecture is {found}, and this example runs {expected}")
            }
            Self::Metadata { key } => write!(f, "{key}: missing, or not a value that fits"),
            Self::Heads { hidden, heads, key_heads } => write!(
                f,
                "{hidden} columns, {heads} heads of queries and {key_heads} of keys do not divide \
                 each other"
            ),
            Self::Empty => f.write_str("there are no tokens"),
            Self::Full { tokens, capacity } => {
                write!(f, "{tokens} tokens, but the context has room for {capacity}")
            }
            Self::NotFinite { position } => {
                write!(f, "the logits at position {position} are not finite")
            }
            Self::Short { tokens, least } => {
                write!(f, "the text has {tokens} tokens, and at least {least} are needed")
            }
            Self::OtherScheme { saved, wanted } => write!(
                f,
                "the model was saved as {} with keys and values in {}; it runs so, or as float, and not \
                 as {} with {}",
                saved.scheme, saved.keys_values, wanted.scheme, wanted.keys_values
            ),
            Self::Save(_) => f.write_str("the model cannot be saved"),
            Self::File(_) => f.write_str("the file cannot be read"),
            Self::Forward(error) => error.fmt(f),
            Self::Memory(_) => f.write_str("keys and values cannot be kept"),
            Self::Rope(_) => f.write_str("positions cannot be turned into angles"),
            Self::Quantize(_) => f.write_str("the weights cannot be quantized"),
            Self::Weight(MapError::Mapper { id, .. } | MapError::Tensor { id, .. }) => {
                write!(f, "{id}: the weight cannot be quantized")
            }
            Self::Weight(error) => error.fmt(f),
            Self::Text(error) => error.fmt(f),
            Self::Metrics(_) => f.write_str("the logits cannot be compared"),
        }
    }
}

impl std::error::Error for SmolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(error) | Self::Save(error) => Some(error),
            Self::Forward(error) => error.source(),
            Self::Memory(error) => Some(error),
            Self::Rope(error) => Some(error),
            Self::Quantize(error) => Some(error),
            Self::Weight(MapError::Mapper { source, .. }) => Some(source),
            Self::Weight(error) => error.source(),
            Self::Text(error) => error.source(),
            Self::Metrics(error) => Some(error),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($error:ty => $variant:ident),*) => {$(
        impl From<$error> for SmolError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from! {
    RecordError => File,
    ForwardError => Forward,
    quant::QuantizeError => Quantize,
    MapError<quant::QuantizeError> => Weight,
    quant::metrics::LogitsError => Metrics
}
