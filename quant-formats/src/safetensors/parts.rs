//! A checkpoint in several files, and the index that names them.
//!
//! `model.safetensors.index.json` says in which file beside it each tensor lies:
//! `{"metadata": {…}, "weight_map": {"name": "model-00001-of-00002.safetensors", …}}`.

use core::mem::take;
use std::collections::BTreeMap;
use std::collections::{BTreeSet, HashSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::{Checkpoint, Entry, Format, SafetensorsError, SafetensorsFile};
use quant::record::{RecordError, RecordState};
use quant::tensor::Tensor;

/// Several safetensors files, seen as one.
pub(crate) struct Parts {
    metadata: BTreeMap<String, String>,
    entries: Vec<Entry>,
    /// The part of each entry, and the position there.
    places: Vec<(usize, usize)>,
    parts: Vec<SafetensorsFile>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Parts {
    /// Whether a text is an index, and not a checkpoint in JSON.
    pub(crate) fn is_index(text: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Probe {
            #[serde(default)]
            weight_map: Option<serde::de::IgnoredAny>,
        }
        serde_json::from_slice::<Probe>(text).is_ok_and(|probe| probe.weight_map.is_some())
    }

    pub(crate) fn open(path: &Path, text: &[u8]) -> Result<Self, RecordError> {
        let Index { mut weight_map } =
            serde_json::from_slice(text).map_err(|source| SafetensorsError::Json { source })?;
        let names: BTreeSet<String> = weight_map.values().cloned().collect();
        let mut all =
            Self { metadata: BTreeMap::new(), entries: vec![], places: vec![], parts: vec![] };
        for name in names {
            all.add(path, &name, &mut weight_map)?;
        }
        match weight_map.pop_first() {
            Some((id, part)) => Err(SafetensorsError::MissingPart { id: id.into(), part }.into()),
            None => Ok(all),
        }
    }

    /// Opens a part and takes the tensors that the index has in it.
    fn add(
        &mut self,
        index: &Path,
        name: &str,
        weight_map: &mut BTreeMap<String, String>,
    ) -> Result<(), RecordError> {
        let mut components = Path::new(name).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            return Err(
                SafetensorsError::PartName { name: name.chars().take(200).collect() }.into()
            );
        }
        let part = SafetensorsFile::open(&index.with_file_name(name))?;
        let (listed, others): (BTreeMap<_, _>, _) =
            take(weight_map).into_iter().partition(|(_, file)| file == name);
        *weight_map = others;
        let mut here: HashSet<String> = listed.into_keys().collect();
        for (position, entry) in part.entries().iter().enumerate() {
            if !here.remove(entry.id.as_str()) {
                // A tensor that the index does not know, or has elsewhere.
                let (id, part) = (entry.id.clone(), name.into());
                return Err(SafetensorsError::Unlisted { id, part }.into());
            }
            self.entries.push(entry.clone());
            self.places.push((self.parts.len(), position));
        }
        for name in part.other_names() {
            here.remove(name);
        }
        if let Some(id) = here.into_iter().min() {
            return Err(SafetensorsError::MissingPart { id: id.into(), part: name.into() }.into());
        }
        self.metadata.extend(part.metadata().clone());
        self.parts.push(part);
        Ok(())
    }
}

impl Checkpoint for Parts {
    fn format(&self) -> Format {
        Format::Safetensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        let (part, position) = self.places[index];
        self.parts[part].read(position)
    }

    fn read_into(&self, index: usize, memory: Vec<f32>) -> Result<Tensor, RecordError> {
        let (part, position) = self.places[index];
        self.parts[part].read_into(position, memory)
    }

    fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        let states = self.parts.iter().map(Checkpoint::states);
        Ok(states.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}
