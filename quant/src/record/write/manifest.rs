//! What a file is going to hold, without the values of its tensors.

use alloc::collections::BTreeMap;

use crate::module::{Leaves, ParamId, ParamView, Site, StateLeaf, Walk, walk};
use crate::record::format::entry::{RecordEntry, RecordState};
use crate::record::format::version::RecordVersion;

/// Declares the content of a file before it is written: everything but the values of its tensors.
///
/// ```
/// use quant::record::{Manifest, RecordEntry};
///
/// let manifest = Manifest::new([RecordEntry::new("layers.0.weight", [64, 32], None)])
///     .metadata([("license".to_owned(), "MIT".to_owned())])
///     .max_shard_size(1 << 30);
/// assert_eq!(manifest.entries.len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Manifest {
    /// The metadata of the user, by key.
    pub metadata: BTreeMap<String, String>,
    /// Other names of tensors, and the tensors; see [`alias`](Self::alias).
    pub aliases: BTreeMap<ParamId, ParamId>,
    /// The tensors, in the order in which they will be written.
    pub entries: Vec<RecordEntry>,
    /// The states of modules.
    pub states: Vec<RecordState>,
    /// States that are written later, in this order, after the last tensor.
    pub later_states: Vec<LaterState>,
    /// The maximum size of a shard in bytes, or `None` for a single file; see
    /// [`BincodeRecorder::max_shard_size`](crate::BincodeRecorder::max_shard_size).
    pub max_shard_size: Option<u64>,
    /// The version of a record, or `None` for the oldest one that stores each tensor in its smallest
    /// form.
    pub version: Option<RecordVersion>,
}

impl Manifest {
    /// The manifest of a file with these tensors, without metadata and states.
    pub fn new(entries: impl IntoIterator<Item = RecordEntry>) -> Self {
        Self { entries: entries.into_iter().collect(), ..Self::default() }
    }

    /// Adds metadata. Pairs replace earlier ones with the same key.
    #[must_use]
    pub fn metadata(mut self, pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        self.metadata.extend(pairs);
        self
    }

    /// Declares that the tensor `of` has another name, under which it is found when a record is read.
    /// This makes the record one of version 2.
    ///
    /// ```
    /// use quant::Tensor;
    /// use quant::record::{Manifest, RecordEntry, RecordFile, RecordWriter};
    ///
    /// # let directory = std::env::temp_dir().join(format!("quant-doc-alias-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # let path = directory.join("model.quant");
    /// let manifest = Manifest::new([RecordEntry::new("embed", [2], None)]).alias("head", "embed");
    /// let mut writer = RecordWriter::create(&path, manifest)?;
    /// writer.write("embed", &Tensor::from_values(&[2], vec![1.0, 2.0])?)?;
    /// writer.finish()?;
    /// let record = RecordFile::open(&path)?;
    /// assert_eq!(*record.read(record.position("head").unwrap())?.values(), [1.0, 2.0]);
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn alias(mut self, name: impl Into<ParamId>, of: impl Into<ParamId>) -> Self {
        self.aliases.insert(name.into(), of.into());
        self
    }

    /// Adds states of modules.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = RecordState>) -> Self {
        self.states.extend(states);
        self
    }

    /// Adds states whose bytes are not in memory yet.
    #[must_use]
    pub fn later_states(mut self, states: impl IntoIterator<Item = LaterState>) -> Self {
        self.later_states.extend(states);
        self
    }

    /// Splits the record into shards of at most `bytes` bytes; `None` writes a single file.
    #[must_use]
    pub fn max_shard_size(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.max_shard_size = bytes.into();
        self
    }

    /// Writes a record of this version; `None` chooses the oldest one that stores each tensor in its
    /// smallest form.
    #[must_use]
    pub fn version(mut self, version: impl Into<Option<RecordVersion>>) -> Self {
        self.version = version.into();
        self
    }

    /// The manifest of a file that holds `model`. Pairs of `metadata` replace those of the model.
    pub fn of_model(model: &dyn Walk, metadata: &BTreeMap<String, String>) -> Self {
        let mut manifest = Self::default();
        walk(model, &mut manifest);
        manifest.metadata.extend(metadata.clone());
        manifest
    }
}

/// A state that is declared without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaterState {
    /// The path of the module, or the name of a foreign tensor.
    pub id: ParamId,
    /// The name of the format of the bytes.
    pub kind: String,
    /// The number of bytes.
    pub len: u64,
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
