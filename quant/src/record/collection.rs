//! Records in memory, and copying models to them.

use alloc::collections::BTreeMap;
use std::collections::HashMap;

use super::error::RecordError;
use crate::module::{Leaves, ParamId, ParamView, Site, StateLeaf, Walk, Walker, WalkerMut, walk};
use crate::record::format::entry::RecordState;
use crate::record::format::error::RecordFormatError;
use crate::tensor::Tensor;

/// A record in memory: named tensors in order, metadata, and the states of modules.
///
/// A record is a [`Module`](crate::Module) itself: it can be visited, mapped, quantized and saved without the Rust
/// types of the model that it was saved from.
///
/// ```
/// use quant::record::Record;
/// use quant::record::Recorder;
/// use quant::{BincodeRecorder, Module, Param};
///
/// let recorder = BincodeRecorder::default().metadata("license", "MIT");
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
    /// The positions of names in `tensors`.
    tensor_positions: HashMap<ParamId, usize>,
    metadata: BTreeMap<String, String>,
    states: Vec<RecordState>,
    /// The positions of paths in `states`.
    state_positions: HashMap<ParamId, usize>,
}

impl Record {
    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record that saving and loading `module` would give.
    ///
    /// # Errors
    /// [`RecordFormatError::DuplicateName`] if two parameters or two states have the same path;
    /// [`RecordFormatError::Tensor`] if a storage does not have as many values as its shape says.
    pub fn from_module(module: &(impl Walk + ?Sized)) -> Result<Self, RecordError> {
        let mut copy = Copy { record: Self::new(), error: None };
        walk(module, &mut copy);
        match copy.error {
            Some(error) => Err(error.into()),
            None => Ok(copy.record),
        }
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether the record has no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensor_positions.get(name).map(|&position| &self.tensors[position].1)
    }

    /// Names and tensors, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.tensors.iter())
    }

    /// Appends a tensor, or replaces the tensor with the same name and returns the old one.
    pub fn insert(&mut self, name: impl Into<ParamId>, tensor: Tensor) -> Option<Tensor> {
        let id = name.into();
        if let Some(&position) = self.tensor_positions.get(&id) {
            return Some(core::mem::replace(&mut self.tensors[position].1, tensor));
        }
        self.tensor_positions.insert(id.clone(), self.tensors.len());
        self.tensors.push((id, tensor));
        None
    }

    /// The metadata of the user, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Adds a pair, or replaces the value of the key and returns the old one.
    pub fn insert_metadata(
        &mut self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Option<String> {
        self.metadata.insert(key.into(), value.into())
    }

    /// The states of modules, in order.
    pub fn states(&self) -> &[RecordState] {
        &self.states
    }

    /// Appends a state, or replaces the state with the same path and returns the old one.
    pub fn insert_state(&mut self, state: RecordState) -> Option<RecordState> {
        if let Some(&position) = self.state_positions.get(&state.id) {
            return Some(core::mem::replace(&mut self.states[position], state));
        }
        self.state_positions.insert(state.id.clone(), self.states.len());
        self.states.push(state);
        None
    }

    /// The tensors by name, and the states.
    pub(super) fn into_tensors_and_states(self) -> (HashMap<ParamId, Tensor>, Vec<RecordState>) {
        (self.tensors.into_iter().collect(), self.states)
    }
}

/// Compares names, tensors, states, their order, and metadata.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.tensors == other.tensors
            && self.metadata == other.metadata
            && self.states == other.states
    }
}

/// An iterator over the names and tensors of a [`Record`], in order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(core::slice::Iter<'a, (ParamId, Tensor)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a ParamId, &'a Tensor);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(id, tensor)| (id, tensor))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(id, tensor)| (id, tensor))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Record {
    type Item = (&'a ParamId, &'a Tensor);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Record {
    type Item = (ParamId, Tensor);
    type IntoIter = std::vec::IntoIter<(ParamId, Tensor)>;

    /// Returns names and tensors in order. Metadata and states are dropped.
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
    /// The record of these tensors. Of several with the same name, the last one is kept.
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

/// A state has no parameters; it only has bytes for records.
impl Walk for RecordState {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.saved_state(&self.kind, &self.data);
    }

    fn walk_mut(&mut self, _walker: &mut WalkerMut<'_>) {}
}

/// Copies the visited leaves.
struct Copy {
    record: Record,
    /// The first one.
    error: Option<RecordFormatError>,
}

impl Copy {
    fn duplicate(&mut self, site: Site<'_>) {
        let id = site.path.into();
        self.error.get_or_insert(RecordFormatError::DuplicateName { id });
    }
}

impl Leaves for Copy {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        match param.try_to_tensor() {
            Ok(tensor) => {
                if self.record.insert(site.path, tensor).is_some() {
                    self.duplicate(site);
                }
            }
            Err(source) => {
                let id = site.path.into();
                self.error.get_or_insert(RecordFormatError::Tensor { id, source });
            }
        }
    }

    fn metadata(&mut self, key: &str, value: &str) {
        self.record.insert_metadata(key, value);
    }

    fn saved_state(&mut self, site: Site<'_>, kind: &str, data: &[u8]) {
        let state = RecordState { id: site.path.into(), kind: kind.into(), data: data.into() };
        if self.record.insert_state(state).is_some() {
            self.duplicate(site);
        }
    }

    fn state(&mut self, site: Site<'_>, leaf: &dyn StateLeaf) {
        if let Some(data) = leaf.save() {
            self.saved_state(site, leaf.kind(), &data);
        }
    }
}
