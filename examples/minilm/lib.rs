//! MiniLM-L6, a sentence encoder, written as somebody would write it for floats: the layers of
//! `quant_nn` and ndarray.

mod load;
mod model;
mod tokens;

pub use load::{LoadError, load};
pub use model::{Config, MiniLm, Tokens};
pub use tokens::Tokenizer;
