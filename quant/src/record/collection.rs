//! A record in memory.

use alloc::collections::BTreeMap;
use std::collections::HashMap;

use super::error::RecordError;
use super::format::entry::State;
use crate::module::{Leaves, ParamId, ParamView, Site, StateLeaf, Walk, Walker, WalkerMut, walk};
use crate::tensor::Tensor;

/// What a [`Recorder`](super::Recorder) reads: named tensors in order, metadata, and the states
/// of modules.
///
/// It is a [`Module`](crate::Module): a checkpoint can be visited, mapped, quantized and saved without the Rust
/// types it was made from.
///
/// ```
/// use quant::record::Record;
/// use quant::{BincodeRecorder, Module, Param, Recorder};
///
/// let recorder = BincodeRecorder::default().with_metadata("license", "MIT");
/// let bytes = (Param::new([1.0f32, 2.0]), Param::new(0.5f32)).save_bytes(&recorder)?;
///
/// let record = recorder.load(&mut bytes.as_slice(), Some(bytes.len() as u64))?;
/// assert_eq!(record.get("0").unwrap().values(), [1.0, 2.0].as_slice());
/// assert_eq!(record.metadata()["license"], "MIT");
/// assert_eq!(record.num_params(), 3);
/// # Ok::<(), quant::RecordError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Record {
    tensors: Vec<(ParamId, Tensor)>,
    /// Where in `tensors` a name is.
    index: HashMap<ParamId, usize>,
    metadata: BTreeMap<String, String>,
    states: Vec<State>,
}

impl Record {
    /// A record of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of what saving `module` would write.
    ///
    /// # Errors
    /// [`RecordError::DuplicateName`] if two parameters or two states have one path.
    pub fn from_module(module: &(impl Walk + ?Sized)) -> Result<Self, RecordError> {
        let mut copy = Copy { record: Self::new(), duplicate: None };
        walk(module, &mut copy);
        match copy.duplicate {
            Some(id) => Err(RecordError::DuplicateName { id }),
            None => Ok(copy.record),
        }
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&position| &self.tensors[position].1)
    }

    /// Names and tensors, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&ParamId, &Tensor)> {
        self.tensors.iter().map(|(id, tensor)| (id, tensor))
    }

    /// Adds a tensor at the end, or puts it in the place of the one with its name, which is
    /// returned.
    pub fn insert(&mut self, name: impl Into<ParamId>, tensor: Tensor) -> Option<Tensor> {
        let id = name.into();
        if let Some(&position) = self.index.get(&id) {
            return Some(core::mem::replace(&mut self.tensors[position].1, tensor));
        }
        self.index.insert(id.clone(), self.tensors.len());
        self.tensors.push((id, tensor));
        None
    }

    /// The user's own pairs, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Adds a pair, or replaces the one with this key, whose value is returned.
    pub fn insert_metadata(
        &mut self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Option<String> {
        self.metadata.insert(key.into(), value.into())
    }

    /// The states of modules, in order.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// Adds a state at the end, or puts it in the place of the one with its path, which is
    /// returned.
    pub fn insert_state(&mut self, state: State) -> Option<State> {
        match self.states.iter_mut().find(|own| own.id == state.id) {
            Some(own) => Some(core::mem::replace(own, state)),
            None => {
                self.states.push(state);
                None
            }
        }
    }

    /// The tensors by name, and the states.
    pub(super) fn into_parts(self) -> (HashMap<ParamId, Tensor>, Vec<State>) {
        (self.tensors.into_iter().collect(), self.states)
    }
}

/// Equal in names, tensors, states and their order, and in metadata.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.tensors == other.tensors
            && self.metadata == other.metadata
            && self.states == other.states
    }
}

impl IntoIterator for Record {
    type Item = (ParamId, Tensor);
    type IntoIter = std::vec::IntoIter<(ParamId, Tensor)>;

    /// Names and tensors, in order; metadata and states are dropped.
    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

impl<N: Into<ParamId>> Extend<(N, Tensor)> for Record {
    fn extend<I: IntoIterator<Item = (N, Tensor)>>(&mut self, tensors: I) {
        for (name, tensor) in tensors {
            self.insert(name, tensor);
        }
    }
}

impl<N: Into<ParamId>> FromIterator<(N, Tensor)> for Record {
    /// The record of these tensors; the last of one name counts.
    fn from_iter<I: IntoIterator<Item = (N, Tensor)>>(tensors: I) -> Self {
        let mut record = Self::new();
        record.extend(tensors);
        record
    }
}

impl Walk for Record {
    fn walk(&self, walker: &mut Walker<'_>) {
        for (key, value) in &self.metadata {
            walker.metadata(key, value);
        }
        for (id, tensor) in &self.tensors {
            tensor.walk(&mut walker.field(id.as_str()));
        }
        for state in &self.states {
            state.walk(&mut walker.field(state.id.as_str()));
        }
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        for (id, tensor) in &mut self.tensors {
            tensor.walk_mut(&mut walker.field(id.as_str()));
        }
    }
}

/// Brings no parameter to a walk, only its bytes to a record.
impl Walk for State {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.saved_state(&self.kind, &self.data);
    }

    fn walk_mut(&mut self, _walker: &mut WalkerMut<'_>) {}
}

/// Copies what a walk comes by.
struct Copy {
    record: Record,
    duplicate: Option<ParamId>,
}

impl Leaves for Copy {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        if self.record.insert(site.path, param.to_tensor()).is_some() {
            self.duplicate = Some(site.path.into());
        }
    }

    fn metadata(&mut self, key: &str, value: &str) {
        self.record.insert_metadata(key, value);
    }

    fn saved_state(&mut self, site: Site<'_>, kind: &str, data: &[u8]) {
        let state = State { id: site.path.into(), kind: kind.into(), data: data.into() };
        if self.record.insert_state(state).is_some() {
            self.duplicate = Some(site.path.into());
        }
    }

    fn state(&mut self, site: Site<'_>, leaf: &dyn StateLeaf) {
        if let Some(data) = leaf.save() {
            self.saved_state(site, leaf.kind(), &data);
        }
    }
}
