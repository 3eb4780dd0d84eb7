//! Tokens of a text, and the text of tokens.

use std::collections::HashSet;

use minijinja::{Environment, context};
use quant_formats::GgufMetadata;
use serde::Serialize;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper};
use tokenizers::{PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl};

use crate::SmolError;

type Inner = TokenizerImpl<
    ModelWrapper,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// The tokenizer of a GGUF file: byte pairs, and digits one by one.
#[derive(Debug)]
pub struct Tokenizer {
    inner: Inner,
    template: Option<String>,
    /// Tokens after which a text ends.
    ends: HashSet<u32>,
}

/// What somebody says in a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }

    /// What the model says.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".into(), content: content.into() }
    }
}

/// The kinds of tokens in a file that are no text: for control, or defined by users.
const SPECIAL: [i32; 2] = [3, 4];

/// Tokens that end a turn.
const ENDS: [&str; 2] = ["<|im_end|>", "<|endoftext|>"];

impl Tokenizer {
    pub(crate) fn read(metadata: &GgufMetadata) -> Result<Self, SmolError> {
        let missing = |key: &str| SmolError::Metadata { key: key.into() };
        let strings = |key| metadata.strings(key).ok_or_else(|| missing(key));
        for (key, known) in [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "smollm")] {
            match metadata.text(key) {
                Some(found) if found == known => {}
                Some(found) => {
                    let message = format!("{key}: {found}, and this example knows {known}");
                    return Err(SmolError::Text(message.into()));
                }
                None => return Err(missing(key)),
            }
        }
        let tokens = strings("tokenizer.ggml.tokens")?;
        let vocabulary: Vocab = tokens.iter().map(|token| String::from(*token)).zip(0..).collect();
        let pairs = strings("tokenizer.ggml.merges")?;
        let pairs = pairs.iter().map(|pair| {
            let (left, right) =
                pair.split_once(' ').ok_or_else(|| missing("tokenizer.ggml.merges"))?;
            Ok((left.to_owned(), right.to_owned()))
        });
        let pairs = pairs.collect::<Result<_, SmolError>>()?;
        let model = BPE::builder().vocab_and_merges(vocabulary, pairs).build();
        let mut inner = Inner::new(ModelWrapper::BPE(model.map_err(SmolError::Text)?));
        let bytes = ByteLevel::new(false, false, true);
        let digits = Digits::new(true);
        let steps =
            vec![PreTokenizerWrapper::Digits(digits), PreTokenizerWrapper::ByteLevel(bytes)];
        inner.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(steps))));
        inner.with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevelDecoder::default())));
        let kinds: Vec<i32> = metadata.numbers("tokenizer.ggml.token_type").unwrap_or_default();
        let special = tokens.iter().zip(kinds).filter(|(_, kind)| SPECIAL.contains(kind));
        let special: Vec<_> =
            special.map(|(token, _)| AddedToken::from(String::from(*token), true)).collect();
        inner.add_special_tokens(special).map_err(SmolError::Text)?;
        let mut ends: HashSet<u32> = ENDS.iter().filter_map(|it| inner.token_to_id(it)).collect();
        ends.extend(metadata.number::<u32>("tokenizer.ggml.eos_token_id"));
        let template = metadata.text("tokenizer.chat_template").map(Into::into);
        Ok(Self { inner, template, ends })
    }

    /// The tokens of a text, without any before or after it.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, SmolError> {
        let encoding = self.inner.encode_fast(text, false).map_err(SmolError::Text)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, special ones left out.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, SmolError> {
        self.inner.decode(tokens, true).map_err(SmolError::Text)
    }

    /// Text as tokens arrive: each call gives what is complete.
    pub fn decoder(&self) -> impl FnMut(u32) -> Result<Option<String>, SmolError> + '_ {
        let mut stream = self.inner.decode_stream(true);
        move |token| stream.step(token).map_err(SmolError::Text)
    }

    /// Whether a text ends with this token.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The text of a chat after which the model speaks, by the template in the file.
    ///
    /// # Errors
    /// There is no template, or it cannot be applied.
    pub fn chat(&self, messages: &[Message]) -> Result<String, SmolError> {
        let key = "tokenizer.chat_template";
        let template =
            self.template.as_deref().ok_or_else(|| SmolError::Metadata { key: key.into() })?;
        Environment::new()
            .render_str(template, context! { messages, add_generation_prompt => true })
            .map_err(|error| SmolError::Text(error.into()))
    }
}
