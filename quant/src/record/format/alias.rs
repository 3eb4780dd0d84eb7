//! Other names of tensors that are stored once.
//!
//! An alias is a pair of the metadata in a record of version 2: the key is [`PREFIX`] and the name, the
//! value is the name of a tensor of the same file. A key of the user that starts so is written with
//! [`FOREIGN`] before it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::error::RecordFormatError;
use super::header::MetadataEntry;
use super::validate::CheckedTensor;
use crate::module::ParamId;

/// What the key of an alias starts with.
pub(crate) const PREFIX: &str = "quant.alias.";

/// What stands before a key of the user that would be an alias.
const FOREIGN: &str = "foreign.";

/// The pairs of a header: the user's, and aliases, in ascending order of their keys.
pub(crate) fn entries(
    metadata: BTreeMap<String, String>,
    aliases: &BTreeMap<ParamId, ParamId>,
) -> Vec<MetadataEntry<'static>> {
    let user = metadata.into_iter().map(|(key, value)| match is_reserved(&key) {
        true => (format!("{FOREIGN}{key}"), value),
        false => (key, value),
    });
    let aliases = aliases.iter().map(|(id, of)| (format!("{PREFIX}{id}"), of.to_string()));
    let pairs: BTreeMap<String, String> = user.chain(aliases).collect();
    let entry = |(key, value): (String, String)| (key.into(), value.into());
    pairs.into_iter().map(entry).map(|(key, value)| MetadataEntry { key, value }).collect()
}

/// A pair with the key of the user.
pub(super) fn unescaped(pair: MetadataEntry<'_>) -> MetadataEntry<'_> {
    let key = match pair.key {
        Cow::Borrowed(key) => Cow::Borrowed(without_foreign(key)),
        Cow::Owned(key) => Cow::Owned(without_foreign(&key).to_owned()),
    };
    MetadataEntry { key, ..pair }
}

fn without_foreign(key: &str) -> &str {
    key.strip_prefix(FOREIGN).filter(|rest| is_reserved(rest)).unwrap_or(key)
}

/// Whether a key is that of an alias, but for what stands before it.
fn is_reserved(key: &str) -> bool {
    key.trim_start_matches(FOREIGN).starts_with(PREFIX)
}

/// Whether a pair of metadata is an alias.
pub(crate) fn is_alias(pair: &MetadataEntry<'_>) -> bool {
    pair.key.starts_with(PREFIX)
}

/// The name and the position of the tensor of each alias in a file of `len` bytes.
///
/// # Errors
/// An alias of no tensor, or with the name of one; more bytes under aliases than the file has, so that
/// a small file cannot fill the memory.
pub(super) fn resolve(
    aliases: &[MetadataEntry<'_>],
    tensors: &[CheckedTensor],
    len: u64,
) -> Result<Vec<(ParamId, usize)>, RecordFormatError> {
    if aliases.is_empty() {
        return Ok(Vec::new());
    }
    let names = tensors.iter().enumerate().map(|(at, tensor)| (tensor.entry.id.as_str(), at));
    let positions: HashMap<&str, usize> = names.collect();
    let (mut resolved, mut bytes) = (Vec::new(), 0u64);
    for MetadataEntry { key, value: of } in aliases {
        let id = ParamId::new(&key[PREFIX.len()..]);
        if positions.contains_key(id.as_str()) {
            return Err(RecordFormatError::DuplicateName { id });
        }
        let Some(&position) = positions.get(&**of) else {
            return Err(RecordFormatError::Alias { id, of: (&**of).into() });
        };
        let CheckedTensor { entry, sections } = &tensors[position];
        // The shape is copied, too.
        let stored: u64 = sections.iter().map(|section| section.len).sum();
        bytes = bytes.saturating_add(stored).saturating_add(8 * entry.shape.len() as u64);
        if bytes > len {
            return Err(RecordFormatError::AliasBytes { id, bytes, len });
        }
        resolved.push((id, position));
    }
    Ok(resolved)
}
