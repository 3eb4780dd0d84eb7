//! Why attention refuses its input.

use crate::scheme::NonFinite;
use core::fmt;

/// Keys and values cannot be kept, or attention cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum AttentionError {
    /// A cache has no heads, or heads without dimensions, or so many that sums could overflow i32.
    Shape {
        /// The number of heads.
        heads: usize,
        /// The number of dimensions of a head.
        head_dim: usize,
    },
    /// There is not enough memory for the capacity.
    Memory {
        /// The number of tokens.
        capacity: usize,
    },
    /// A slice does not have the length that the shape requires.
    Length {
        /// The name of the slice.
        of: &'static str,
        /// The required number of elements.
        expected: usize,
        /// The number of elements given.
        found: usize,
    },
    /// A slice does not consist of whole rows, one for each token.
    Rows {
        /// The name of the slice.
        of: &'static str,
        /// The number of elements given.
        len: usize,
        /// The number of elements of a row.
        row: usize,
    },
    /// The cache has no room for as many tokens.
    Full {
        /// The tokens in the cache.
        len: usize,
        /// The tokens to append.
        tokens: usize,
        /// The most tokens.
        capacity: usize,
    },
    /// An element is NaN or infinite.
    NonFinite {
        /// The name of the slice.
        of: &'static str,
        /// The element.
        error: NonFinite,
    },
    /// A row of a head has elements that are too large to be quantized.
    TooLarge {
        /// The name of the slice.
        of: &'static str,
        /// The index of the first element of the row.
        index: usize,
    },
    /// The number of query heads is not a multiple of that of the cache.
    QueryHeads {
        /// The number of query heads.
        query_heads: usize,
        /// The number of heads in the cache.
        heads: usize,
    },
    /// There are queries of more tokens than the cache has.
    Tokens {
        /// The tokens of the queries.
        tokens: usize,
        /// The tokens in the cache.
        len: usize,
    },
}

impl fmt::Display for AttentionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { heads, head_dim } => {
                write!(f, "keys and values cannot have {heads} heads of {head_dim} dimensions")
            }
            Self::Memory { capacity } => {
                write!(f, "there is not enough memory for the keys and values of {capacity} tokens")
            }
            Self::Length { of, expected, found } => {
                write!(f, "{of}: found {found} elements, expected {expected}")
            }
            Self::Rows { of, len, row } => {
                write!(f, "{of}: {len} elements are not whole rows of {row}")
            }
            Self::Full { len, tokens, capacity } => {
                write!(
                    f,
                    "the cache has {len} tokens and room for {capacity}, so {tokens} more do not fit"
                )
            }
            Self::NonFinite { of, .. } => write!(f, "{of}: an element is not finite"),
            Self::TooLarge { of, index } => {
                write!(f, "{of}: the row of a head at element {index} is too large to be quantized")
            }
            Self::QueryHeads { query_heads, heads } => {
                write!(f, "{query_heads} query heads are not a multiple of {heads} heads of keys")
            }
            Self::Tokens { tokens, len } => {
                write!(f, "there are queries of {tokens} tokens, but keys of {len}")
            }
        }
    }
}

impl core::error::Error for AttentionError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NonFinite { error, .. } => Some(error),
            _ => None,
        }
    }
}
