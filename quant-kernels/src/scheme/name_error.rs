//! The error for a name that does not parse, with the nearest one that does.

use core::fmt;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// A string is not a name of the kind that was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    name: String,
    kind: &'static str,
    expected: &'static str,
    nearest: Option<String>,
}

impl NameError {
    /// For `name`, which is none of the `candidates`. `kind` is what it should name, as in
    /// "quantization scheme", and `expected` what such names look like.
    pub fn new(
        name: &str,
        kind: &'static str,
        expected: &'static str,
        candidates: impl IntoIterator<Item = String>,
    ) -> Self {
        // A third of the letters may differ.
        let limit = name.len().div_ceil(3);
        let near = candidates.into_iter().map(|candidate| (distance(name, &candidate), candidate));
        let nearest = near.filter(|near| near.0 <= limit).min_by_key(|near| near.0);
        let nearest = nearest.map(|near| near.1);
        Self(Box::new(Parts { name: name.into(), kind, expected, nearest }))
    }

    /// The string.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What names of this kind look like.
    pub fn expected(&self) -> &str {
        self.0.expected
    }

    /// The name of this kind that is nearest to the string, if one is near.
    pub fn nearest(&self) -> Option<&str> {
        self.0.nearest.as_deref()
    }

    /// The same with a suffix after the string and the nearest name, which stays if it is `valid`.
    pub(crate) fn with_suffix(mut self, suffix: &str, valid: impl Fn(&str) -> bool) -> Self {
        self.0.name += suffix;
        let whole = self.0.nearest.take().map(|nearest| nearest + suffix);
        self.0.nearest = whole.filter(|name| valid(name));
        self
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { name, kind, expected, nearest } = &*self.0;
        write!(f, "`{name}` is not the name of a {kind}")?;
        if let Some(nearest) = nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        write!(f, "; expected {expected}")
    }
}

impl core::error::Error for NameError {}

/// The bytes to insert, remove or replace to make one string of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // Names are short; a long string is near to none of them.
    const LONGEST: usize = 256;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut diagonal = core::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in
            [("", "", 0), ("", "ab", 2), ("abc", "abc", 0), ("kitten", "sitting", 3)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested_only_if_it_is_near() {
        let nearest = |name| {
            let candidates = ["affine", "symmetric"].map(String::from);
            let error = NameError::new(name, "mapping", "affine or symmetric", candidates);
            error.nearest().map(String::from)
        };
        assert_eq!(nearest("symetric").as_deref(), Some("symmetric"));
        assert_eq!(nearest("afine").as_deref(), Some("affine"));
        assert_eq!(nearest("percentile"), None);
        assert_eq!(nearest(""), None);
    }
}
