//! A checkpoint in shards, and the index that names them.
//!
//! `model.safetensors.index.json` names, for each tensor, a file in its own directory:
//! `{"metadata": {…}, "weight_map": {"name": "model-00001-of-00002.safetensors", …}}`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use quant::__private::check_distinct;
use quant::RecordError;
use quant::Tensor;
use quant::record::RecordState;
use serde::Deserialize;

use super::error::SafetensorsError;
use super::reader::SafetensorsFile;
use crate::entry::{Entry, StateEntry};
use crate::format::Format;
use crate::source::Source;
use crate::text::shorten;

/// Several safetensors files as one checkpoint.
pub(crate) struct Shards {
    index: PathBuf,
    metadata: BTreeMap<String, String>,
    entries: Vec<Entry>,
    /// The shard of each entry, and the position there.
    locations: Vec<(usize, usize)>,
    /// The shard of each state, and the position there.
    states: Vec<(usize, usize)>,
    shards: Vec<SafetensorsFile>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    /// Whether JSON is an index, and not a checkpoint.
    pub(crate) fn is_index(text: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Probe {
            #[serde(default)]
            weight_map: Option<serde::de::IgnoredAny>,
        }
        serde_json::from_slice::<Probe>(text).is_ok_and(|probe| probe.weight_map.is_some())
    }

    /// Opens all shards that an index names. If the index is not `trusted`, a shard may have tensors
    /// that the index does not list, and may lack some that it lists.
    pub(crate) fn open(path: &Path, text: &[u8], trusted: bool) -> Result<Self, RecordError> {
        let Index { weight_map } = serde_json::from_slice(text)
            .map_err(|error| SafetensorsError::Json { source: error.into() })?;
        let shards: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
        let mut listed: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (tensor, shard) in &weight_map {
            listed.entry(shard).or_default().insert(tensor);
        }
        let mut all = Self {
            index: path.into(),
            metadata: BTreeMap::new(),
            entries: vec![],
            locations: vec![],
            states: vec![],
            shards: vec![],
        };
        let opened = shards.iter().map(|name| Ok((*name, all.open_shard(name)?)));
        let opened = opened.collect::<Result<Vec<_>, RecordError>>()?;
        // Of two copies, the index knows which one is meant, if it is there.
        let found = (!trusted).then(|| ids_by_shard(&opened));
        for (name, shard) in opened {
            let listed = listed.remove(name).unwrap_or_default();
            let elsewhere = found.as_ref().map(|found| {
                |id: &str| {
                    let named = weight_map.get(id).filter(|named| *named != name);
                    named.is_some_and(|named| found[&**named].contains(id))
                }
            });
            all.add(name, shard, listed, elsewhere)?;
        }
        check_distinct(all.entries.iter().map(|entry| entry.id.as_str()))?;
        Ok(all)
    }

    /// Opens the shard of this name, which lies beside the index.
    fn open_shard(&self, name: &str) -> Result<SafetensorsFile, RecordError> {
        let mut components = Path::new(name).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            return Err(SafetensorsError::ShardName { name: shorten(name) }.into());
        }
        SafetensorsFile::open(&self.index.with_file_name(name))
    }

    /// Adds a shard, whose tensors must be those that the index lists in it. With `elsewhere`, others
    /// are read, too, unless they are elsewhere, and some may be missing.
    fn add(
        &mut self,
        name: &str,
        shard: SafetensorsFile,
        mut listed: HashSet<&str>,
        elsewhere: Option<impl Fn(&str) -> bool>,
    ) -> Result<(), RecordError> {
        for (position, entry) in shard.entries().iter().enumerate() {
            if !listed.remove(entry.id.as_str()) {
                match elsewhere.as_ref().map(|elsewhere| elsewhere(entry.id.as_str())) {
                    Some(true) => continue,
                    Some(false) => {}
                    None => {
                        let (id, shard) = (entry.id.clone(), name.into());
                        return Err(SafetensorsError::Unlisted { id, shard }.into());
                    }
                }
            }
            self.entries.push(entry.clone());
            self.locations.push((self.shards.len(), position));
        }
        for other in shard.other_names() {
            listed.remove(other);
        }
        if let Some(id) = listed.into_iter().min().filter(|_| elsewhere.is_none()) {
            let (id, shard) = (id.into(), name.into());
            return Err(SafetensorsError::NotInShard { id, shard }.into());
        }
        let states = 0..shard.state_entries().len();
        self.states.extend(states.map(|position| (self.shards.len(), position)));
        self.metadata.extend(shard.metadata().clone());
        self.shards.push(shard);
        Ok(())
    }
}

/// The ids of the tensors in each shard.
fn ids_by_shard<'a>(shards: &[(&'a str, SafetensorsFile)]) -> HashMap<&'a str, HashSet<String>> {
    let ids = |shard: &SafetensorsFile| {
        shard.entries().iter().map(|entry| entry.id.to_string()).collect()
    };
    shards.iter().map(|(name, shard)| (*name, ids(shard))).collect()
}

impl Source for Shards {
    fn format(&self) -> Format {
        Format::Safetensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn state_entries(&self) -> Vec<StateEntry> {
        self.shards.iter().flat_map(Source::state_entries).collect()
    }

    fn files(&self) -> Vec<&Path> {
        let shards = self.shards.iter().flat_map(Source::files);
        std::iter::once(&*self.index).chain(shards).collect()
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        let (shard, position) = self.locations[index];
        self.shards[shard].read(position)
    }

    fn read_into(&self, index: usize, allocation: Vec<f32>) -> Result<Tensor, RecordError> {
        let (shard, position) = self.locations[index];
        self.shards[shard].read_into(position, allocation)
    }

    fn grain(&self, index: usize) -> Option<usize> {
        let (shard, position) = self.locations[index];
        self.shards[shard].grain(position)
    }

    fn read_part(
        &self,
        index: usize,
        elements: Range<usize>,
        allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        let (shard, position) = self.locations[index];
        self.shards[shard].read_part(position, elements, allocation)
    }

    #[cfg(feature = "mmap")]
    unsafe fn map(&mut self) -> Result<(), RecordError> {
        // SAFETY: the caller promises that no file is changed.
        self.shards.iter_mut().try_for_each(|shard| unsafe { shard.map() })
    }

    fn divides_state(&self, index: usize) -> bool {
        let (shard, position) = self.states[index];
        self.shards[shard].divides_state(position)
    }

    fn state_part(&self, index: usize, bytes: Range<usize>) -> Result<Vec<u8>, RecordError> {
        let (shard, position) = self.states[index];
        self.shards[shard].state_part(position, bytes)
    }

    fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        let (shard, position) = self.states[index];
        self.shards[shard].state(position)
    }
}
