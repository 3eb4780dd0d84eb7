//! A record without its tensors' values.

use alloc::collections::BTreeMap;

use crate::module::{Leaves, ParamView, Site, StateLeaf, Walk, walk};
use crate::record::format::entry::RecordEntry;
use crate::record::format::entry::State;

/// What is going to be written: everything but the values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    /// The user's own pairs, by key.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in the order in which they will be written.
    pub entries: Vec<RecordEntry>,
    /// What is kept besides parameters.
    pub states: Vec<State>,
    /// Writes a record in parts of at most so many bytes, and an index of them; see
    /// [`BincodeRecorder::with_max_part_size`](crate::BincodeRecorder::with_max_part_size).
    pub max_part_size: Option<u64>,
}

impl Outline {
    /// What `model` brings to a file, with `metadata` added.
    pub fn of_model(model: &dyn Walk, metadata: &BTreeMap<String, String>) -> Self {
        let mut outline = Self::default();
        walk(model, &mut outline);
        outline.metadata.extend(metadata.clone());
        outline
    }
}

impl Leaves for Outline {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        self.entries.push(RecordEntry::of_param(site.path, param));
    }

    fn metadata(&mut self, key: &str, value: &str) {
        self.metadata.insert(key.into(), value.into());
    }

    fn saved_state(&mut self, site: Site<'_>, kind: &str, data: &[u8]) {
        self.states.push(State { id: site.path.into(), kind: kind.into(), data: data.into() });
    }

    fn state(&mut self, site: Site<'_>, leaf: &dyn StateLeaf) {
        if let Some(data) = leaf.save() {
            self.saved_state(site, leaf.kind(), &data);
        }
    }
}
