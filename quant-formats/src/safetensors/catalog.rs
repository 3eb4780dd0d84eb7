//! The meaning of the tensors of a file: parameters, components of quantized ones, and others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use quant::ParamId;
use quant::QuantizationScheme;
use quant::RecordError;
use quant::record::RecordFormatError;
use quant::tensor::TensorError;

use super::dtype::Dtype;
use super::error::SafetensorsError;
use super::header::{Header, Slot, describe};
use super::names::{self, Components};
use crate::entry::{Entry, Stored};

/// A file's content, by position in the header's list of tensors.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) metadata: BTreeMap<String, String>,
    /// Where each tensor of the file is. Names and shapes are those of entries.
    pub(super) places: Vec<Place>,
    pub(super) entries: Vec<Entry>,
    /// Where the values of each entry are.
    pub(super) locations: Vec<Location>,
    pub(super) states: Vec<StateSource>,
    /// The names of tensors that are not entries: components of quantized ones, and states.
    pub(super) others: Vec<String>,
}

/// The type of a tensor of the file, and the position of its bytes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dtype: Dtype,
    pub(super) bytes: Range<u64>,
}

/// Where the values of an entry are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Location {
    Float(usize),
    Quantized {
        scheme: QuantizationScheme,
        codes: usize,
        scales: usize,
        /// Zero points or minimums.
        offsets: Option<usize>,
    },
}

/// Where the bytes of a state are.
#[derive(Debug)]
pub(super) struct StateSource {
    pub(super) id: ParamId,
    pub(super) kind: String,
    pub(super) slot: usize,
}

impl Catalog {
    pub(super) fn new(header: Header) -> Result<Self, RecordError> {
        let Described { entries: described, taken, states, foreign } = Described::of(&header)?;
        let Header { metadata, tensors } = header;
        let is_users = |key: &String| !may_describe(key) || foreign.contains(key);
        let users = metadata.into_iter().filter(|(key, _)| is_users(key));
        let metadata = users.map(|(key, value)| (names::to_user_key(&key).into(), value));
        let place = |slot: &Slot| Place { dtype: slot.dtype, bytes: slot.bytes.clone() };
        let mut catalog = Self {
            metadata: metadata.collect(),
            places: tensors.iter().map(place).collect(),
            entries: vec![],
            locations: vec![],
            states,
            others: vec![],
        };
        for (position, slot) in tensors.into_iter().enumerate() {
            if let Some((entry, location)) = described.get(&position) {
                catalog.entries.push(entry.clone());
                catalog.locations.push(*location);
            } else if taken[position] {
                catalog.others.push(slot.name);
            } else {
                catalog.add(position, slot);
            }
        }
        // States that the metadata describes were added in the order of keys.
        catalog.states.sort_by_key(|state| state.slot);
        let mut ids = HashSet::new();
        match catalog.states.iter().find(|state| !ids.insert(&state.id)) {
            Some(state) => Err(RecordFormatError::DuplicateName { id: state.id.clone() }.into()),
            None => Ok(catalog),
        }
    }

    /// Adds a tensor that the metadata does not describe.
    fn add(&mut self, position: usize, slot: Slot) {
        let stored = match slot.dtype {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::Bf16,
            _ => {
                let (id, kind) = (ParamId::new(&*slot.name), foreign_kind(slot.dtype, &slot.shape));
                self.states.push(StateSource { id, kind, slot: position });
                return self.others.push(slot.name);
            }
        };
        let bytes = slot.bytes.end - slot.bytes.start;
        self.entries.push(Entry::new(ParamId::new(slot.name), slot.shape, stored, bytes));
        self.locations.push(Location::Float(position));
    }
}

/// Whether a key is like those that describe a quantized tensor or a state.
fn may_describe(key: &str) -> bool {
    key.starts_with(names::TENSOR) || key.starts_with(names::STATE)
}

/// What the metadata of a file describes.
struct Described {
    /// The quantized tensors, by the position of their codes.
    entries: HashMap<usize, (Entry, Location)>,
    /// Whether each tensor of the file is a component of another, and therefore not a parameter.
    taken: Vec<bool>,
    states: Vec<StateSource>,
    /// The keys of another program that [may describe](may_describe), and describe nothing.
    foreign: HashSet<String>,
}

impl Described {
    fn of(header: &Header) -> Result<Self, RecordError> {
        let taken = vec![false; header.tensors.len()];
        let described =
            Self { entries: HashMap::new(), taken, states: vec![], foreign: HashSet::new() };
        if !header.metadata.keys().any(|key| may_describe(key)) {
            return Ok(described);
        }
        let names = header.tensors.iter().map(|slot| slot.name.as_str());
        let by_name = names.enumerate().map(|(position, name)| (name, position)).collect();
        Classifier { header, by_name, described }.run()
    }
}

/// Assigns tensors of a header the meaning that the metadata gives them.
struct Classifier<'a> {
    header: &'a Header,
    by_name: HashMap<&'a str, usize>,
    described: Described,
}

impl Classifier<'_> {
    fn run(mut self) -> Result<Described, RecordError> {
        for (key, description) in &self.header.metadata {
            if self.is_foreign(key, description) {
                self.described.foreign.insert(key.clone());
            } else if let Some(name) = key.strip_prefix(names::TENSOR) {
                let (scheme, shape) = names::parse_description(name, description)?;
                let (codes, entry, location) = self.quantized(name, scheme, shape)?;
                self.described.entries.insert(codes, (entry, location));
            } else if key.starts_with(names::STATE) {
                self.state(key, description)?;
            }
        }
        Ok(self.described)
    }

    /// Whether a key that may describe is one of another program: there is no tensor that it could
    /// describe, and its value is not what this crate writes.
    fn is_foreign(&self, key: &str, value: &str) -> bool {
        match key.strip_prefix(names::TENSOR) {
            Some(name) => !self.by_name.contains_key(name) && !names::is_description(value),
            None => key.starts_with(names::STATE) && !self.by_name.contains_key(key),
        }
    }

    fn state(&mut self, key: &str, kind: &str) -> Result<(), SafetensorsError> {
        let slot = self.by_name.get(key).map(|&slot| &self.header.tensors[slot]);
        let bytes = (Dtype::U8, slot.map_or(vec![0], |slot| slot.shape.clone()));
        let slot = self.component(key, key, &bytes)?;
        let id = ParamId::new(&key[names::STATE.len()..]);
        self.described.states.push(StateSource { id, kind: kind.into(), slot });
        Ok(())
    }

    fn quantized(
        &mut self,
        name: &str,
        scheme: QuantizationScheme,
        shape: Vec<usize>,
    ) -> Result<(usize, Entry, Location), RecordError> {
        let id = ParamId::new(name);
        let components = Components::of(&shape, scheme).map_err(|error| {
            RecordError::from(RecordFormatError::Tensor {
                id: id.clone(),
                source: TensorError::from(error),
            })
        })?;
        let codes = self.component(name, name, &components.codes)?;
        let scales = self.component(name, &names::scale_name(name), &components.scales)?;
        let offsets = match components.offsets {
            None => None,
            Some((suffix, dtype, shape)) => {
                Some(self.component(name, &format!("{name}{suffix}"), &(dtype, shape))?)
            }
        };
        let of_slot = |slot: usize| {
            let bytes = &self.header.tensors[slot].bytes;
            bytes.end - bytes.start
        };
        let bytes = of_slot(codes) + of_slot(scales) + offsets.map_or(0, of_slot);
        let entry = Entry::new(id, shape, Stored::Quantized(scheme), bytes);
        Ok((codes, entry, Location::Quantized { scheme, codes, scales, offsets }))
    }

    /// The position of a component with this type and shape.
    fn component(
        &mut self,
        of: &str,
        name: &str,
        (dtype, shape): &(Dtype, Vec<usize>),
    ) -> Result<usize, SafetensorsError> {
        let Some(&position) = self.by_name.get(name) else {
            return Err(SafetensorsError::MissingComponent {
                id: of.into(),
                component: name.into(),
            });
        };
        let slot = &self.header.tensors[position];
        if (slot.dtype, &slot.shape) != (*dtype, shape) {
            let (expected, found) = (describe(*dtype, shape), slot.describe());
            return Err(SafetensorsError::Layout { id: name.into(), expected, found });
        }
        if std::mem::replace(&mut self.described.taken[position], true) {
            // A component of two tensors.
            return Err(SafetensorsError::DuplicateName { id: name.into() });
        }
        Ok(position)
    }
}

/// The prefix of the kind of a state that is a foreign tensor: `tensor/I64 [1, 512]`.
const FOREIGN: &str = "tensor/";

/// The kind of a state that is a foreign tensor.
pub(crate) fn foreign_kind(dtype: Dtype, shape: &[usize]) -> String {
    format!("{FOREIGN}{}", describe(dtype, shape))
}

/// Type and shape of a state that is a foreign tensor of `len` bytes.
pub(crate) fn foreign(kind: &str, len: u64) -> Option<(Dtype, Vec<usize>)> {
    let (dtype, shape) = kind.strip_prefix(FOREIGN)?.split_once(' ')?;
    let dtype = Dtype::of(dtype)?;
    // Written as a tensor, a float would be read as a parameter.
    if matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return None;
    }
    let shape: Vec<usize> = serde_json::from_str(shape).ok()?;
    (dtype.byte_count(&shape) == Some(len)).then_some((dtype, shape))
}
