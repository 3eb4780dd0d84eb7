//! Metadata as users read it: values by key, arrays included.

use core::fmt;

use quant::RecordError;

use super::carried::{header_of, is_header};
use super::header::Header;
use super::metadata::{Elements, Pair};
use super::number::FromNumber;
use crate::checkpoint::Checkpoint;

/// The metadata of a GGUF file, with its arrays: a tokenizer, or the sizes of a model.
///
/// ```no_run
/// use quant_formats::GgufMetadata;
///
/// let checkpoint = quant_formats::open("model.gguf")?;
/// if let Some(metadata) = GgufMetadata::of(&checkpoint)? {
///     let layers: Option<usize> = metadata.number("llama.block_count");
///     let tokens: Option<Vec<&str>> = metadata.strings("tokenizer.ggml.tokens");
/// }
/// # Ok::<(), quant::RecordError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct GgufMetadata(Header);

impl GgufMetadata {
    /// The metadata of a GGUF file, or of another checkpoint that was made of one; `None` if the
    /// checkpoint has none.
    ///
    /// # Errors
    /// The states of the checkpoint cannot be read.
    pub fn of(checkpoint: &Checkpoint) -> Result<Option<Self>, RecordError> {
        let states = checkpoint.states()?;
        states
            .iter()
            .find(|state| is_header(state))
            .map(header_of)
            .transpose()
            .map(|it| it.map(Self))
    }

    /// All keys, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.pairs.iter().map(|pair| &*pair.key)
    }

    fn pair(&self, key: &str) -> Option<&Pair> {
        self.0.pairs.iter().find(|pair| pair.key == key)
    }

    /// The text of this key; `None` if there is no such key, or its value is not a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        let mut texts = self.pair(key)?.elements(&self.0.bytes)?;
        texts.is_single().then(|| texts.next_text()).flatten()
    }

    /// The number of this key, of whatever type the file has; `None` if there is no such key, its value
    /// is not a number, or the number does not fit. A flag is 0 or 1.
    pub fn number<T: FromNumber>(&self, key: &str) -> Option<T> {
        let mut numbers = self.pair(key)?.elements(&self.0.bytes)?;
        numbers.is_single().then(|| numbers.next_number()).flatten().and_then(T::from_number)
    }

    /// The texts in the array of this key; `None` if there is no such key, or its value is not an array
    /// of texts.
    pub fn strings(&self, key: &str) -> Option<Vec<&str>> {
        self.array(key, Elements::next_text)
    }

    /// The numbers in the array of this key, as [`number`](Self::number).
    pub fn numbers<T: FromNumber>(&self, key: &str) -> Option<Vec<T>> {
        self.array(key, |numbers| numbers.next_number().and_then(T::from_number))
    }

    fn array<'a, T>(
        &'a self,
        key: &str,
        mut next: impl FnMut(&mut Elements<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut elements = self.pair(key)?.elements(&self.0.bytes)?;
        if elements.is_single() {
            return None;
        }
        let mut values = Vec::new();
        while elements.remaining() > 0 {
            values.push(next(&mut elements)?);
        }
        Some(values)
    }
}

/// The keys.
impl fmt::Debug for GgufMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::header::start;
    use crate::gguf::metadata::{ValueType, parsed_pair, string, string_pair};

    fn metadata(pairs: &[Vec<u8>]) -> GgufMetadata {
        let bytes = [start(3, 0, pairs.len()), pairs.concat()].concat();
        GgufMetadata(Header::read(&mut &*bytes, Some(bytes.len() as u64)).unwrap())
    }

    fn array(key: &str, ty: u32, count: u64, elements: &[u8]) -> Vec<u8> {
        [&*string(key), &9u32.to_le_bytes(), &ty.to_le_bytes(), &count.to_le_bytes(), elements]
            .concat()
    }

    #[test]
    fn values_are_found_by_key_and_type() {
        let metadata = metadata(&[
            string_pair("name", "a model"),
            parsed_pair("layers", ValueType::U32, "30").unwrap(),
            parsed_pair("least", ValueType::I64, "-5").unwrap(),
            parsed_pair("epsilon", ValueType::F32, "0.5").unwrap(),
            parsed_pair("tied", ValueType::Bool, "true").unwrap(),
            array("tokens", 8, 2, &[string("a"), string("é")].concat()),
            array("kinds", 5, 2, &[1i32.to_le_bytes(), (-3i32).to_le_bytes()].concat()),
            array("none", 6, 0, &[]),
        ]);
        assert_eq!(metadata.text("name"), Some("a model"));
        assert_eq!(metadata.number::<usize>("layers"), Some(30));
        assert_eq!(metadata.number::<f32>("layers"), Some(30.0));
        assert_eq!(
            (metadata.number("least"), metadata.number::<u32>("least")),
            (Some(-5i64), None)
        );
        assert_eq!(
            (metadata.number("epsilon"), metadata.number::<u8>("epsilon")),
            (Some(0.5f32), None)
        );
        assert_eq!(metadata.number::<u8>("tied"), Some(1));
        assert_eq!(metadata.strings("tokens"), Some(vec!["a", "é"]));
        assert_eq!(metadata.numbers::<i64>("kinds"), Some(vec![1, -3]));
        assert_eq!(metadata.numbers::<u32>("kinds"), None);
        assert_eq!(metadata.numbers::<f32>("none"), Some(vec![]));
        assert_eq!(metadata.keys().count(), 8);
    }

    #[test]
    fn values_of_another_kind_are_none() {
        let metadata = metadata(&[
            string_pair("name", "a model"),
            array("tokens", 8, 1, &string("a")),
            array("bytes", 8, 1, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        ]);
        assert_eq!((metadata.number::<u32>("name"), metadata.strings("name")), (None, None));
        assert_eq!((metadata.text("tokens"), metadata.numbers::<u8>("tokens")), (None, None));
        assert_eq!(metadata.strings("bytes"), None, "not UTF-8");
        assert_eq!((metadata.text("other"), metadata.strings("other")), (None, None));
    }
}
