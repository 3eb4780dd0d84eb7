//! Foreign names made to fit.

use core::fmt;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::error::Error;

use regex_lite::Regex;

use super::{Checkpoint, Entry, Format};
use quant::module::ParamId;
use quant::record::{Record, RecordError, RecordState};
use quant::tensor::Tensor;

/// Rules that give tensors other names, or leave them out.
///
/// Each rule has a regular expression, of which every match in a name is replaced; `$1` or `${1}`
/// stands for what its first group matched. Rules are applied in their order, each to what those
/// before it have made of a name. A rule without effect is an error, and so are two tensors that
/// come to one name.
///
/// ```
/// use quant_formats::Rename;
///
/// let rename = Rename::new()
///     .rule(r"^encoder\.layer\.(\d+)\.", "layers.${1}.")?
///     .rule("LayerNorm", "norm")?
///     .omit(r"\.position_ids$")?;
/// let names = ["encoder.layer.0.LayerNorm.weight", "embeddings.position_ids"];
/// assert_eq!(rename.names(&names)?, [Some("layers.0.norm.weight".into()), None]);
/// # Ok::<(), quant_formats::RenameError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rename {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Regex,
    /// `None` leaves what matches out.
    replacement: Option<String>,
}

impl Rename {
    /// No rules: every name stays.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule that replaces what matches.
    ///
    /// # Errors
    /// [`RenameError::Pattern`] for what is no regular expression.
    pub fn rule(self, pattern: &str, replacement: impl Into<String>) -> Result<Self, RenameError> {
        self.with(pattern, Some(replacement.into()))
    }

    /// Adds a rule that leaves out every tensor whose name matches somewhere.
    ///
    /// # Errors
    /// [`RenameError::Pattern`] for what is no regular expression.
    pub fn omit(self, pattern: &str) -> Result<Self, RenameError> {
        self.with(pattern, None)
    }

    fn with(mut self, pattern: &str, replacement: Option<String>) -> Result<Self, RenameError> {
        let compiled = Regex::new(pattern)
            .map_err(|source| RenameError::Pattern { pattern: pattern.into(), source })?;
        self.rules.push(Rule { pattern: compiled, replacement });
        Ok(self)
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The new name of each of `names`, or `None` for those that are left out.
    ///
    /// # Errors
    /// A rule without effect, or two names that become one.
    pub fn names(&self, names: &[&str]) -> Result<Vec<Option<String>>, RenameError> {
        let mut used = vec![false; self.rules.len()];
        let renamed: Vec<_> = names.iter().map(|name| self.name(name, &mut used)).collect();
        if let Some(rule) = used.iter().position(|used| !used) {
            let pattern = self.rules[rule].pattern.as_str().into();
            return Err(RenameError::NoMatch { rule, pattern });
        }
        let mut from = HashMap::new();
        for (&old, new) in names.iter().zip(&renamed) {
            if let Some(new) = new
                && let Some(first) = from.insert(new, old)
            {
                let names = [first.into(), old.into()];
                return Err(RenameError::Collision { name: new.as_str().into(), names });
            }
        }
        Ok(renamed)
    }

    fn name(&self, name: &str, used: &mut [bool]) -> Option<String> {
        let mut name = name.to_owned();
        for (rule, used) in self.rules.iter().zip(used) {
            if rule.pattern.is_match(&name) {
                *used = true;
                name = rule.pattern.replace_all(&name, rule.replacement.as_ref()?).into_owned();
            }
        }
        Some(name)
    }

    /// The record with other names.
    ///
    /// # Errors
    /// As for [`names`](Self::names).
    pub fn record(&self, record: Record) -> Result<Record, RenameError> {
        if self.is_empty() {
            return Ok(record);
        }
        let states: Vec<RecordState> = record.states().to_vec();
        let tensors = record.iter().map(|(id, _)| id.as_str());
        let old: Vec<_> = tensors.chain(states.iter().map(|state| state.id.as_str())).collect();
        let mut new = self.names(&old)?.into_iter();
        let mut renamed = Record::new();
        for (key, value) in record.metadata() {
            renamed.insert_metadata(key, value);
        }
        for (_, tensor) in record {
            if let Some(name) = new.next().flatten() {
                renamed.insert(name, tensor);
            }
        }
        for state in states {
            if let Some(name) = new.next().flatten() {
                renamed.insert_state(RecordState { id: name.into(), ..state });
            }
        }
        Ok(renamed)
    }

    /// The checkpoint with other names.
    ///
    /// # Errors
    /// As for [`names`](Self::names), or the states cannot be read.
    pub fn checkpoint(
        &self,
        inner: Box<dyn Checkpoint>,
    ) -> Result<Box<dyn Checkpoint>, RecordError> {
        if self.is_empty() {
            return Ok(inner);
        }
        let states = inner.states()?;
        let tensors = inner.entries().iter().map(|entry| entry.id.as_str());
        let old: Vec<_> = tensors.chain(states.iter().map(|state| state.id.as_str())).collect();
        let mut new = self.names(&old)?.into_iter();
        let mut renamed = Renamed { inner, entries: vec![], positions: vec![], states: vec![] };
        for (position, entry) in renamed.inner.entries().iter().enumerate() {
            if let Some(name) = new.next().flatten() {
                renamed.entries.push(Entry { id: name.into(), ..entry.clone() });
                renamed.positions.push(position);
            }
        }
        for state in states {
            if let Some(name) = new.next().flatten() {
                renamed.states.push(RecordState { id: name.into(), ..state });
            }
        }
        Ok(Box::new(renamed))
    }
}

/// A checkpoint seen under other names.
struct Renamed {
    inner: Box<dyn Checkpoint>,
    entries: Vec<Entry>,
    /// Those of the entries in the checkpoint itself.
    positions: Vec<usize>,
    states: Vec<RecordState>,
}

impl Checkpoint for Renamed {
    fn format(&self) -> Format {
        self.inner.format()
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.inner.metadata()
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.inner.read(self.positions[index])
    }

    fn read_into(&self, index: usize, memory: Vec<f32>) -> Result<Tensor, RecordError> {
        self.inner.read_into(self.positions[index], memory)
    }

    fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.inner.verify(self.positions[index])
    }

    fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        Ok(self.states.clone())
    }
}

/// Names cannot be replaced as asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum RenameError {
    /// The pattern is no regular expression.
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: regex_lite::Error,
    },
    /// No name matches a rule's pattern, after the rules before it.
    NoMatch {
        /// The rule's position, from 0.
        rule: usize,
        /// Its pattern.
        pattern: String,
    },
    /// Two tensors come to one name.
    Collision {
        /// The new name.
        name: ParamId,
        /// The old ones.
        names: [ParamId; 2],
    },
}

impl fmt::Display for RenameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { pattern, source } => {
                write!(f, "`{pattern}` is no regular expression: {source}")
            }
            Self::NoMatch { rule, pattern } => {
                write!(f, "renaming rule {rule} `{pattern}` matches no name")
            }
            Self::Collision { name, names: [a, b] } => {
                write!(f, "{name}: both {a} and {b} would have this name")
            }
        }
    }
}

impl Error for RenameError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pattern { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<RenameError> for RecordError {
    fn from(error: RenameError) -> Self {
        Self::recorder(error)
    }
}
