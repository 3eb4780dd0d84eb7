//! bincode as the header and the shard index use it: fixed-width little-endian integers.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Deserializer};

/// The configuration with a limit of `LIMIT` bytes.
pub(super) const fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Fixint, Limit<LIMIT>>
{
    bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// Deserializes a list. Memory grows with the elements that are present, not with the claimed length.
///
/// `Vec` itself reserves up to a megabyte for the claimed length.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct Visitor<T>(core::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = seq.next_element()? {
                list.push(element);
            }
            Ok(list)
        }
    }
    from.deserialize_seq(Visitor(core::marker::PhantomData))
}
