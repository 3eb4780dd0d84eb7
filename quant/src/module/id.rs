//! The path of a parameter.

use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// A parameter's path from the root of its model: `layers.0.weight`.
///
/// The steps are field names, positions in vectors, arrays and tuples, keys of maps and names of
/// enum variants. A path is the same in every run. Recipes, errors and files use it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct ParamId(String);

impl ParamId {
    /// The parameter at this path.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The path as a string, its steps joined by dots.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The path of the module that the parameter or state at this path is a field of; empty at the root.
pub fn parent_of(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

impl fmt::Display for ParamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` so that tables can align it.
        f.pad(&self.0)
    }
}

impl From<&str> for ParamId {
    fn from(path: &str) -> Self {
        Self(path.into())
    }
}

impl From<String> for ParamId {
    fn from(path: String) -> Self {
        Self(path)
    }
}

impl AsRef<str> for ParamId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ParamId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for ParamId {
    fn eq(&self, path: &str) -> bool {
        self.0 == path
    }
}

impl PartialEq<&str> for ParamId {
    fn eq(&self, path: &&str) -> bool {
        self.0 == *path
    }
}
