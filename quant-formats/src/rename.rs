//! Other names for the tensors of a foreign checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use quant::__private::glob_matches;
use quant::ParamId;
use quant::RecordError;
use quant::Tensor;
use quant::record::{Record, RecordState};
use regex_lite::Regex;

use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, StateEntry};
use crate::format::Format;
use crate::method::PreQuantized;
use crate::source::{Sorted, Source};

/// Rules that rename tensors and states, or leave them out.
///
/// Rules apply in order, each to the names that the rules before it have made. A rule without
/// effect is an error, and so are two tensors, or two states, that get the same name.
///
/// ```
/// use quant_formats::Rename;
///
/// let rename = Rename::new()
///     .omit("**.position_ids")
///     .replace(r"^encoder\.layer\.(\d+)\.", "layers.${1}.")?
///     .replace("LayerNorm", "norm")?;
/// let names = ["encoder.layer.0.LayerNorm.weight", "embeddings.position_ids"];
/// assert_eq!(rename.names(&names)?, [Some("layers.0.norm.weight".into()), None]);
/// # Ok::<(), quant_formats::RenameError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rename {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
enum Rule {
    Omit { glob: String },
    Replace { regex: Regex, replacement: String },
}

impl Rule {
    /// The new name, `None` for a name to be left out; an error if the rule does not match.
    fn apply(&self, name: &str) -> Result<Option<String>, NoMatch> {
        match self {
            Self::Omit { glob } if glob_matches(glob, name) => Ok(None),
            Self::Replace { regex, replacement } if regex.is_match(name) => {
                Ok(Some(regex.replace_all(name, replacement).into_owned()))
            }
            _ => Err(NoMatch),
        }
    }

    fn pattern(&self) -> &str {
        match self {
            Self::Omit { glob } => glob,
            Self::Replace { regex, .. } => regex.as_str(),
        }
    }
}

struct NoMatch;

impl Rename {
    /// No rules: every name stays.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule that replaces every match of a regular expression; `$1` or `${1}` in the
    /// replacement stands for its first group.
    ///
    /// # Errors
    /// [`RenameError::Pattern`] if the pattern is not a regular expression.
    pub fn replace(
        mut self,
        regex: &str,
        replacement: impl Into<String>,
    ) -> Result<Self, RenameError> {
        let regex = Regex::new(regex).map_err(|source| RenameError::Pattern {
            pattern: regex.into(),
            source: Box::new(source),
        })?;
        self.rules.push(Rule::Replace { regex, replacement: replacement.into() });
        Ok(self)
    }

    /// Adds a rule that leaves out names that match a pattern as of a
    /// [recipe](quant::Recipe): `*` matches within a part between dots, `**` any number
    /// of parts.
    #[must_use]
    pub fn omit(mut self, glob: impl Into<String>) -> Self {
        self.rules.push(Rule::Omit { glob: glob.into() });
        self
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The new name of each of `names`; `None` for a name that is left out.
    ///
    /// # Errors
    /// A rule has no effect, or two names become the same.
    pub fn names(&self, names: &[&str]) -> Result<Vec<Option<String>>, RenameError> {
        Ok(self.tensors_and_states(names, &[])?.0)
    }

    /// The new names of tensors and of states, whose names need not differ from each other's.
    #[allow(clippy::type_complexity)]
    fn tensors_and_states(
        &self,
        tensors: &[&str],
        states: &[&str],
    ) -> Result<(Vec<Option<String>>, Vec<Option<String>>), RenameError> {
        let mut used = vec![false; self.rules.len()];
        let mut renamed = |names: &[&str]| -> Vec<Option<String>> {
            names.iter().map(|name| self.name(name, &mut used)).collect()
        };
        let (new_tensors, new_states) = (renamed(tensors), renamed(states));
        if let Some(rule) = used.iter().position(|used| !used) {
            let pattern = self.rules[rule].pattern().into();
            return Err(RenameError::NoMatch { rule, pattern });
        }
        check_distinct(tensors, &new_tensors)?;
        check_distinct(states, &new_states)?;
        Ok((new_tensors, new_states))
    }

    fn name(&self, name: &str, used: &mut [bool]) -> Option<String> {
        let mut name = name.to_owned();
        for (rule, used) in self.rules.iter().zip(used) {
            if let Ok(renamed) = rule.apply(&name) {
                *used = true;
                name = renamed?;
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
        let (tensor_names, state_names) = {
            let tensors: Vec<_> = record.iter().map(|(id, _)| id.as_str()).collect();
            let states: Vec<_> = states.iter().map(|state| state.id.as_str()).collect();
            self.tensors_and_states(&tensors, &states)?
        };
        let mut renamed = Record::new();
        for (key, value) in record.metadata() {
            renamed.insert_metadata(key, value);
        }
        for ((_, tensor), name) in record.into_iter().zip(tensor_names) {
            if let Some(name) = name {
                renamed.insert(name, tensor);
            }
        }
        for (state, name) in states.into_iter().zip(state_names) {
            if let Some(name) = name {
                renamed.insert_state(RecordState { id: name.into(), ..state });
            }
        }
        Ok(renamed)
    }

    /// The checkpoint with other names.
    ///
    /// # Errors
    /// As for [`names`](Self::names).
    pub fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Checkpoint, RenameError> {
        if self.is_empty() {
            return Ok(checkpoint);
        }
        let inner = checkpoint.into_source();
        let states = inner.state_entries();
        let (tensor_names, state_names) = {
            let tensors: Vec<_> = inner.entries().iter().map(|entry| entry.id.as_str()).collect();
            let states: Vec<_> = states.iter().map(|state| state.id.as_str()).collect();
            self.tensors_and_states(&tensors, &states)?
        };
        let prequantized = inner.prequantized().and_then(|all| {
            let tensors = inner.entries().iter().map(|entry| &entry.id).zip(&tensor_names);
            let states = states.iter().map(|state| &state.id).zip(&state_names);
            renamed_parts(all, tensors.chain(states))
        });
        let (mut entries, mut positions) = (Vec::new(), Vec::new());
        for (position, name) in tensor_names.into_iter().enumerate() {
            if let Some(name) = name {
                entries.push(Entry { id: name.into(), ..inner.entries()[position].clone() });
                positions.push(position);
            }
        }
        let states = states.into_iter().zip(state_names).enumerate();
        let states = states.filter_map(|(position, (state, name))| {
            Some((position, StateEntry { id: name?.into(), ..state }))
        });
        let states = states.collect();
        Ok(Checkpoint::new(Renamed { inner, entries, positions, states, prequantized }))
    }
}

/// Checks that no two of the new names are the same.
fn check_distinct(old: &[&str], new: &[Option<String>]) -> Result<(), RenameError> {
    let mut from = HashMap::new();
    for (&old, new) in old.iter().zip(new) {
        if let Some(new) = new
            && let Some(first) = from.insert(new, old)
        {
            let names = [first.into(), old.into()];
            return Err(RenameError::Collision { name: new.as_str().into(), names });
        }
    }
    Ok(())
}

/// What another program has quantized, without tensors that are left out. One that cannot be read
/// keeps its name until all its parts are left out.
fn renamed_parts<'a>(
    all: &PreQuantized,
    names: impl Iterator<Item = (&'a ParamId, &'a Option<String>)>,
) -> Option<PreQuantized> {
    let kept = names.filter_map(|(old, new)| Some((old, new.as_deref()?)));
    let kept: HashMap<&ParamId, &str> = kept.collect();
    all.renamed(|tensor| match tensor.refusal {
        None => kept.get(&tensor.id).map(|&name| name.into()),
        Some(_) => {
            let is_left = tensor.components.iter().any(|part| kept.contains_key(part));
            is_left.then(|| tensor.id.clone())
        }
    })
}

/// A checkpoint under other names.
struct Renamed {
    inner: Box<dyn Source>,
    entries: Vec<Entry>,
    /// The position of each entry in `inner`.
    positions: Vec<usize>,
    /// The states, and the position of each in `inner`.
    states: Vec<(usize, StateEntry)>,
    prequantized: Option<PreQuantized>,
}

impl Source for Renamed {
    fn format(&self) -> Format {
        self.inner.format()
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.inner.metadata()
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn state_entries(&self) -> Vec<StateEntry> {
        self.states.iter().map(|(_, state)| state.clone()).collect()
    }

    fn files(&self) -> Vec<&Path> {
        self.inner.files()
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.inner.read(self.positions[index])
    }

    fn read_into(&self, index: usize, allocation: Vec<f32>) -> Result<Tensor, RecordError> {
        self.inner.read_into(self.positions[index], allocation)
    }

    fn grain(&self, index: usize) -> Option<usize> {
        self.inner.grain(self.positions[index])
    }

    fn read_part(
        &self,
        index: usize,
        elements: Range<usize>,
        allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        self.inner.read_part(self.positions[index], elements, allocation)
    }

    fn divides_state(&self, index: usize) -> bool {
        self.inner.divides_state(self.states[index].0)
    }

    fn state_part(&self, index: usize, bytes: Range<usize>) -> Result<Vec<u8>, RecordError> {
        self.inner.state_part(self.states[index].0, bytes)
    }

    fn verify(&self, index: usize) -> Result<(), RecordError> {
        self.inner.verify(self.positions[index])
    }

    fn read_sorted(&self, index: usize) -> Result<Option<Sorted>, RecordError> {
        self.inner.read_sorted(self.positions[index])
    }

    fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        let (position, StateEntry { id, .. }) = &self.states[index];
        Ok(RecordState { id: id.clone(), ..self.inner.state(*position)? })
    }

    fn prequantized(&self) -> Option<&PreQuantized> {
        self.prequantized.as_ref()
    }
}

/// Names cannot be replaced by the rules.
#[derive(Debug)]
#[non_exhaustive]
pub enum RenameError {
    /// A pattern is not a regular expression.
    Pattern {
        /// The pattern.
        pattern: String,
        /// The reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No name that the rules before it have made matches a rule.
    NoMatch {
        /// The rule's position, from 0.
        rule: usize,
        /// Its pattern.
        pattern: String,
    },
    /// Two tensors, or two states, get the same name.
    Collision {
        /// The new name.
        name: ParamId,
        /// The old names.
        names: [ParamId; 2],
    },
}

impl fmt::Display for RenameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { pattern, .. } => write!(f, "`{pattern}` is not a regular expression"),
            Self::NoMatch { pattern, .. } => write!(f, "the pattern `{pattern}` matches no name"),
            Self::Collision { name, names: [a, b] } => {
                write!(f, "{name}: both `{a}` and `{b}` would get this name")
            }
        }
    }
}

impl Error for RenameError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pattern { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

impl From<RenameError> for RecordError {
    fn from(error: RenameError) -> Self {
        Self::recorder(error)
    }
}
