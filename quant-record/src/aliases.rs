//! Metadata of the user, and pairs that are other names of tensors instead.

use crate::encoding::Version;
use crate::header::{Header, Pair};

/// What the key of an alias starts with.
const PREFIX: &str = "quant.alias.";

/// What stands before a key of the user that would be an alias.
const FOREIGN: &str = "foreign.";

/// The metadata of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata<'a> {
    header: Header<'a>,
    /// Whether pairs may be aliases.
    has_aliases: bool,
    /// Whether keys of the user have a [`FOREIGN`] that is to be taken away.
    is_escaped: bool,
}

impl<'a> Metadata<'a> {
    pub(crate) fn new(header: Header<'a>, version: Version) -> Self {
        let has_aliases = version >= Version::V2;
        // A file of version 1 may be older than aliases, and have such keys as they are.
        let is_old = || header.metadata().any(|pair| pair.key.starts_with(PREFIX));
        Self { header, has_aliases, is_escaped: has_aliases || !is_old() }
    }

    /// The pairs of the user.
    pub(crate) fn user(self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let user = move |pair: &Pair<'a>| self.name(pair).is_none();
        let unescape = move |key| if self.is_escaped { without_foreign(key) } else { key };
        self.header.metadata().filter(user).map(move |pair| (unescape(pair.key), pair.value))
    }

    /// Each other name, and that of its tensor.
    pub(crate) fn aliases(self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let alias = move |pair: Pair<'a>| Some((self.name(&pair)?, pair.value));
        self.header.metadata().filter_map(alias)
    }

    /// The other name of a tensor that a pair has.
    fn name(self, pair: &Pair<'a>) -> Option<&'a str> {
        pair.key.strip_prefix(PREFIX).filter(|_| self.has_aliases)
    }
}

fn without_foreign(key: &str) -> &str {
    let is_reserved = |key: &str| key.trim_start_matches(FOREIGN).starts_with(PREFIX);
    key.strip_prefix(FOREIGN).filter(|rest| is_reserved(rest)).unwrap_or(key)
}
