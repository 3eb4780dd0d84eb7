//! Metadata: keys, and values with a type.
//!
//! A pair is kept as the bytes that it has in the file, so that it is written as it was read. Values
//! that are not arrays are shown as text, too.

use std::ops::Range;

use quant::RecordError;

use super::cursor::Cursor;
use super::error::GgufError;
use super::number::GgufNumber;
use crate::text::shorten;

/// The deepest nesting of arrays that is read. llama.cpp reads arrays that are not nested at all.
const MAX_NESTING: usize = 8;

/// The key for the alignment of tensors.
pub(super) const ALIGNMENT: &str = "general.alignment";

macro_rules! value_types {
    ($($name:ident = $id:literal: $rust:literal, $bytes:expr;)*) => {
        /// The type of a value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum ValueType { $($name),* }

        impl ValueType {
            const ALL: &[Self] = &[$(Self::$name),*];

            /// The number in the format.
            const fn id(self) -> u32 {
                match self { $(Self::$name => $id),* }
            }

            /// The name, for messages.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$name => $rust),* }
            }

            /// The bytes of a value; `None` if they vary.
            const fn bytes(self) -> Option<u64> {
                match self { $(Self::$name => $bytes),* }
            }
        }
    };
}

value_types! {
    U8 = 0: "u8", Some(1);
    I8 = 1: "i8", Some(1);
    U16 = 2: "u16", Some(2);
    I16 = 3: "i16", Some(2);
    U32 = 4: "u32", Some(4);
    I32 = 5: "i32", Some(4);
    F32 = 6: "f32", Some(4);
    Bool = 7: "bool", Some(1);
    String = 8: "string", None;
    Array = 9: "array", None;
    U64 = 10: "u64", Some(8);
    I64 = 11: "i64", Some(8);
    F64 = 12: "f64", Some(8);
}

impl ValueType {
    fn of_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.id() == id)
    }

    /// The bytes of a value, at least.
    fn least_bytes(self) -> u64 {
        match self {
            // A length; for an array, after the type of its elements.
            Self::String => 8,
            Self::Array => 12,
            _ => self.bytes().unwrap_or(1),
        }
    }
}

/// A key and its value, by their position in the header.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) ty: ValueType,
    /// The position of the whole pair.
    pub(super) bytes: Range<usize>,
    /// The position of the value.
    pub(super) value: Range<usize>,
}

impl Pair {
    /// The least bytes of a pair: the length of the key, the type, and a value of one byte.
    pub(super) const LEAST_BYTES: u64 = 8 + 4 + 1;

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, RecordError> {
        let start = cursor.at();
        let key = cursor.name()?;
        let ty = read_type(cursor, &key)?;
        let value = cursor.at();
        skip_values(cursor, &key, ty, 1, 0)?;
        let end = cursor.at();
        Ok(Self { key, ty, bytes: start..end, value: value..end })
    }

    /// The value as text; `None` for an array, which may be long.
    pub(super) fn text(&self, header: &[u8]) -> Option<String> {
        text(self.ty, &header[self.value.clone()])
    }

    /// The value as one element, or the elements of the array that it is; `None` if it is an array of
    /// arrays.
    pub(super) fn elements<'a>(&self, header: &'a [u8]) -> Option<Elements<'a>> {
        let bytes = &header[self.value.clone()];
        if self.ty != ValueType::Array {
            return Some(Elements { ty: self.ty, remaining: 1, single: true, bytes });
        }
        let (ty, bytes) = bytes.split_first_chunk()?;
        let (count, bytes) = bytes.split_first_chunk()?;
        let ty = ValueType::of_id(u32::from_le_bytes(*ty)).filter(|ty| *ty != ValueType::Array)?;
        Some(Elements { ty, remaining: u64::from_le_bytes(*count), single: false, bytes })
    }

    /// The value as a u32, if it is one.
    pub(super) fn u32(&self, header: &[u8]) -> Option<u32> {
        let value = header[self.value.clone()].try_into().ok()?;
        (self.ty == ValueType::U32).then(|| u32::from_le_bytes(value))
    }
}

/// Values of one type, one after the other, that have been checked.
pub(super) struct Elements<'a> {
    ty: ValueType,
    remaining: u64,
    single: bool,
    bytes: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Whether it is one value that is not in an array.
    pub(super) fn is_single(&self) -> bool {
        self.single
    }

    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next value, if it is a text.
    pub(super) fn next_text(&mut self) -> Option<&'a str> {
        if self.ty != ValueType::String {
            return None;
        }
        let (len, rest) = self.bytes.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u64::from_le_bytes(*len).try_into().ok()?)?;
        (self.bytes, self.remaining) = (rest, self.remaining.checked_sub(1)?);
        core::str::from_utf8(text).ok()
    }

    /// The next value, if it is a number or a flag.
    pub(super) fn next_number(&mut self) -> Option<GgufNumber> {
        let len = self.ty.bytes()? as usize;
        let (value, rest) = self.bytes.split_at_checked(len)?;
        (self.bytes, self.remaining) = (rest, self.remaining.checked_sub(1)?);
        number(self.ty, value)
    }
}

fn read_type(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, RecordError> {
    let id = cursor.u32()?;
    match ValueType::of_id(id) {
        Some(ty) => Ok(ty),
        None => Err(GgufError::ValueType { key: shorten(key), ty: id }.into()),
    }
}

/// Skips `count` values inside `depth` arrays.
fn skip_values(
    cursor: &mut Cursor<'_>,
    key: &str,
    ty: ValueType,
    count: u64,
    depth: usize,
) -> Result<(), RecordError> {
    if let Some(bytes) = ty.bytes() {
        // The count was compared with the bytes that remain.
        cursor.take(count * bytes)?;
        return Ok(());
    }
    for _ in 0..count {
        if ty == ValueType::String {
            cursor.string()?;
        } else {
            if depth == MAX_NESTING {
                let key = shorten(key);
                return Err(GgufError::Nesting { key, limit: MAX_NESTING }.into());
            }
            let inner = read_type(cursor, key)?;
            let count = cursor.u64()?;
            cursor.check_count(count, inner.least_bytes())?;
            skip_values(cursor, key, inner, count, depth + 1)?;
        }
    }
    Ok(())
}

/// The bytes of `key` and `value` as a pair whose value is a string.
pub(super) fn string_pair(key: &str, value: &str) -> Vec<u8> {
    pair(key, ValueType::String, &string(value))
}

/// The bytes of a pair whose value of this type is written as `text`.
pub(super) fn parsed_pair(key: &str, ty: ValueType, text: &str) -> Result<Vec<u8>, GgufError> {
    match parse(ty, text) {
        Some(value) => Ok(pair(key, ty, &value)),
        None => Err(GgufError::Metadata { key: shorten(key), ty: ty.name() }),
    }
}

fn pair(key: &str, ty: ValueType, value: &[u8]) -> Vec<u8> {
    [&*string(key), &ty.id().to_le_bytes(), value].concat()
}

/// A text with its length before it.
pub(super) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

macro_rules! numbers {
    ($($ty:ident: $number:ty),*) => {
        /// The text of a value whose length belongs to its type.
        fn text(ty: ValueType, value: &[u8]) -> Option<String> {
            match ty {
                $(ValueType::$ty => {
                    Some(<$number>::from_le_bytes(value.try_into().ok()?).to_string())
                })*
                ValueType::Bool => Some((*value.first()? != 0).to_string()),
                ValueType::String => Some(String::from_utf8_lossy(value.get(8..)?).into_owned()),
                ValueType::Array => None,
            }
        }

        /// The inverse of [`text`].
        fn parse(ty: ValueType, text: &str) -> Option<Vec<u8>> {
            match ty {
                $(ValueType::$ty => Some(text.parse::<$number>().ok()?.to_le_bytes().into()),)*
                ValueType::Bool => Some(vec![text.parse::<bool>().ok()?.into()]),
                ValueType::String => Some(string(text)),
                ValueType::Array => None,
            }
        }
    };
}

numbers! {
    U8: u8, I8: i8, U16: u16, I16: i16, U32: u32, I32: i32, U64: u64, I64: i64, F32: f32, F64: f64
}

/// The number that these bytes are; a flag is 0 or 1.
fn number(ty: ValueType, value: &[u8]) -> Option<GgufNumber> {
    macro_rules! as_a {
        ($number:ty => $variant:ident) => {
            GgufNumber::$variant(<$number>::from_le_bytes(value.try_into().ok()?).into())
        };
    }
    Some(match ty {
        ValueType::U8 => as_a!(u8 => Integer),
        ValueType::I8 => as_a!(i8 => Integer),
        ValueType::U16 => as_a!(u16 => Integer),
        ValueType::I16 => as_a!(i16 => Integer),
        ValueType::U32 => as_a!(u32 => Integer),
        ValueType::I32 => as_a!(i32 => Integer),
        ValueType::U64 => as_a!(u64 => Integer),
        ValueType::I64 => as_a!(i64 => Integer),
        ValueType::F32 => as_a!(f32 => Float),
        ValueType::F64 => as_a!(f64 => Float),
        ValueType::Bool => GgufNumber::Integer((*value.first()? != 0).into()),
        ValueType::String | ValueType::Array => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Pair, String> {
        let mut reader = bytes;
        let mut cursor = Cursor::new(&mut reader, Some(bytes.len() as u64));
        Pair::read(&mut cursor).map_err(|error| match error {
            RecordError::Recorder { source, .. } => source.to_string(),
            other => other.to_string(),
        })
    }

    #[test]
    fn values_survive_the_way_to_text_and_back() {
        for (ty, texts) in [
            (ValueType::U8, &["0", "255"][..]),
            (ValueType::I8, &["-128"]),
            (ValueType::U16, &["65535"]),
            (ValueType::I16, &["-32768"]),
            (ValueType::U32, &["4294967295"]),
            (ValueType::I32, &["-2147483648"]),
            (ValueType::U64, &["18446744073709551615"]),
            (ValueType::I64, &["-9223372036854775808"]),
            (ValueType::F32, &["0.00001", "-0", "inf", "100000"]),
            (ValueType::F64, &["0.1", "1e-300"]),
            (ValueType::Bool, &["true", "false"]),
            (ValueType::String, &["", "a\nb", "é"]),
        ] {
            for text in texts {
                let bytes = parsed_pair("k", ty, text).unwrap();
                let pair = read(&bytes).unwrap();
                assert_eq!((&*pair.key, pair.ty, pair.bytes.clone()), ("k", ty, 0..bytes.len()));
                let again = pair.text(&bytes).unwrap();
                assert_eq!(parsed_pair("k", ty, &again).unwrap(), bytes, "{text}");
            }
        }
    }

    #[test]
    fn rejects_texts_of_another_type() {
        for (ty, text) in
            [(ValueType::U8, "256"), (ValueType::Bool, "1"), (ValueType::Array, "[string; 2]")]
        {
            let error = parsed_pair("a.b", ty, text).unwrap_err();
            assert_eq!(error, GgufError::Metadata { key: "a.b".into(), ty: ty.name() });
        }
    }

    /// A pair of the key `k` with this type and this value.
    fn hostile(ty: u32, value: &[u8]) -> Vec<u8> {
        [&*string("k"), &ty.to_le_bytes(), value].concat()
    }

    /// An array of `count` elements, whose bytes follow.
    fn array(ty: u32, count: u64, elements: &[u8]) -> Vec<u8> {
        [&ty.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
    }

    #[test]
    fn nested_arrays_are_read_to_a_depth() {
        let mut value = array(0, 1, &[7]);
        for depth in 1..=MAX_NESTING {
            let bytes = hostile(9, &value);
            assert_eq!(read(&bytes).unwrap().text(&bytes), None, "{depth}");
            value = array(9, 1, &value);
        }
        assert_eq!(read(&hostile(9, &value)).unwrap_err(), "k: arrays are nested more than 8 deep");
    }

    #[test]
    fn rejects_claims_beyond_the_end() {
        for (bytes, said) in [
            (hostile(13, &[0]), "k: unknown type 13 of a value"),
            (hostile(9, &array(13, 0, &[])), "k: unknown type 13 of a value"),
            (hostile(9, &array(0, 9, &[0; 8])), "the header claims 9 items, but 8 bytes follow"),
            (
                hostile(9, &array(12, u64::MAX, &[])),
                "the header claims 18446744073709551615 items, but 0 bytes follow",
            ),
            (hostile(9, &array(8, 2, &[0; 15])), "the header claims 2 items, but 15 bytes follow"),
            (hostile(8, &100u64.to_le_bytes()), "truncated: the file has 21 bytes of at least 121"),
            (hostile(4, &[0; 3]), "truncated: the file has 16 bytes of at least 17"),
        ] {
            assert_eq!(read(&bytes).unwrap_err(), said);
        }
    }
}
