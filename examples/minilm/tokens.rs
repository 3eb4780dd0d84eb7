//! Words of sentences.

use std::path::Path;

use tokenizers::TruncationParams;

use crate::Tokens;

/// Cuts sentences into the words of the model.
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// The tokenizer of a checkpoint's folder, which cuts off at `longest` words.
    ///
    /// # Errors
    /// A file that is missing or makes no sense.
    pub fn load(folder: &Path, longest: usize) -> tokenizers::Result<Self> {
        let mut tokenizer = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json"))?;
        let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
        tokenizer.with_padding(None).with_truncation(Some(truncation))?;
        Ok(Self(tokenizer))
    }

    /// The words of sentences.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode(&self, sentences: &[String]) -> tokenizers::Result<Tokens> {
        let mut tokens = Tokens::default();
        for sentence in sentences {
            let encoded = self.0.encode_fast(sentence.as_str(), true)?;
            tokens.ids.extend(encoded.get_ids());
            tokens.lengths.push(encoded.get_ids().len());
        }
        Ok(tokens)
    }
}
