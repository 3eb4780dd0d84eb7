//! What a file is going to hold, without the values of its tensors.

use alloc::collections::BTreeMap;

use crate::module::{Leaves, ParamView, Site, StateLeaf, Walk, walk};
use crate::record::format::entry::{RecordEntry, RecordState};

/// Declares the content of a file before it is written: everything but the values of its tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The metadata of the user, by key.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in the order in which they will be written.
    pub entries: Vec<RecordEntry>,
    /// The states of modules.
    pub states: Vec<RecordState>,
    /// The maximum size of a shard in bytes, or `None` for a single file; see
    /// [`BincodeRecorder::with_max_shard_size`](crate::BincodeRecorder::with_max_shard_size).
    pub max_shard_size: Option<u64>,
}

impl Manifest {
    /// The manifest of a file that holds `model`. Pairs of `metadata` replace those of the model.
    pub fn of_model(model: &dyn Walk, metadata: &BTreeMap<String, String>) -> Self {
        let mut manifest = Self::default();
        walk(model, &mut manifest);
        manifest.metadata.extend(metadata.clone());
        manifest
    }
}

impl Leaves for Manifest {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        self.entries.push(RecordEntry::of_param(site.path, param));
    }

    fn metadata(&mut self, key: &str, value: &str) {
        self.metadata.insert(key.into(), value.into());
    }

    fn saved_state(&mut self, site: Site<'_>, kind: &str, data: &[u8]) {
        self.states.push(RecordState {
            id: site.path.into(),
            kind: kind.into(),
            data: data.into(),
        });
    }

    fn state(&mut self, site: Site<'_>, leaf: &dyn StateLeaf) {
        if let Some(data) = leaf.save() {
            self.saved_state(site, leaf.kind(), &data);
        }
    }
}
