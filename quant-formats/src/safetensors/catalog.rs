//! What the tensors of a file are to us: parameters, parts of quantized ones, and the rest.

use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet};

use super::dtype::Dtype;
use super::header::{Header, Slot, describe};
use super::names::{self, Parts};
use super::{Entry, SafetensorsError, Stored};
use quant::module::ParamId;
use quant::record::{RecordError, RecordFormatError};
use quant::scheme::QuantizationScheme;
use quant::tensor::TensorError;

/// A file's content, by position in the header's list of tensors.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) entries: Vec<Entry>,
    /// Those of the entries.
    pub(super) sources: Vec<Source>,
    pub(super) states: Vec<StateSource>,
}

/// Where the values of an entry are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Float(usize),
    Quantized {
        scheme: QuantizationScheme,
        codes: usize,
        scales: usize,
        zero_points: Option<usize>,
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
    pub(super) fn new(header: &Header) -> Result<Self, RecordError> {
        Sorter::new(header).run()
    }
}

/// Assigns each tensor of a header its meaning.
struct Sorter<'a> {
    header: &'a Header,
    by_name: HashMap<&'a str, usize>,
    /// Tensors that are a part of another, which must not be taken for parameters.
    taken: Vec<bool>,
    catalog: Catalog,
}

impl<'a> Sorter<'a> {
    fn new(header: &'a Header) -> Self {
        let users = header.metadata.iter().filter(|(key, _)| !key.starts_with(names::RESERVED));
        let metadata = users.map(|(key, value)| (key.clone(), value.clone())).collect();
        let names = header.tensors.iter().map(|slot| slot.name.as_str());
        Self {
            header,
            by_name: names.enumerate().map(|(position, name)| (name, position)).collect(),
            taken: vec![false; header.tensors.len()],
            catalog: Catalog { metadata, entries: vec![], sources: vec![], states: vec![] },
        }
    }

    fn run(mut self) -> Result<Catalog, RecordError> {
        let described = self.described()?;
        for (position, slot) in self.header.tensors.iter().enumerate() {
            if let Some((entry, source)) = described.get(&position) {
                self.catalog.entries.push(entry.clone());
                self.catalog.sources.push(*source);
            } else if !self.taken[position] {
                self.plain(position, slot);
            }
        }
        // Those that the metadata describes came in the order of keys.
        self.catalog.states.sort_by_key(|state| state.slot);
        let mut states = HashSet::new();
        match self.catalog.states.iter().find(|state| !states.insert(&state.id)) {
            Some(twice) => Err(RecordFormatError::DuplicateName { id: twice.id.clone() }.into()),
            None => Ok(self.catalog),
        }
    }

    /// The quantized tensors, by the position of their codes.
    fn described(&mut self) -> Result<HashMap<usize, (Entry, Source)>, RecordError> {
        let mut described = HashMap::new();
        for (key, description) in &self.header.metadata {
            if let Some(name) = key.strip_prefix(names::TENSOR) {
                let (scheme, shape) = names::parse_description(name, description)?;
                let (codes, entry, source) = self.quantized(name, scheme, shape)?;
                described.insert(codes, (entry, source));
            } else if key.starts_with(names::STATE) {
                self.state(key, description)?;
            } else if key.starts_with(names::RESERVED) {
                return Err(SafetensorsError::ReservedKey { key: key.clone() }.into());
            }
        }
        Ok(described)
    }

    fn state(&mut self, key: &str, kind: &str) -> Result<(), SafetensorsError> {
        let slot = self.by_name.get(key).map(|&slot| &self.header.tensors[slot]);
        let bytes = (Dtype::U8, slot.map_or(vec![0], |slot| slot.shape.clone()));
        let slot = self.part(key, key, &bytes)?;
        let id = ParamId::new(&key[names::STATE.len()..]);
        self.catalog.states.push(StateSource { id, kind: kind.into(), slot });
        Ok(())
    }

    fn quantized(
        &mut self,
        name: &str,
        scheme: QuantizationScheme,
        shape: Vec<usize>,
    ) -> Result<(usize, Entry, Source), RecordError> {
        let id = ParamId::new(name);
        let parts = Parts::of(&shape, scheme).map_err(|error| {
            RecordError::from(RecordFormatError::Tensor {
                id: id.clone(),
                source: TensorError::from(error),
            })
        })?;
        let codes = self.part(name, name, &parts.codes)?;
        let scales = self.part(name, &names::scale_name(name), &parts.scales)?;
        let zero_points = match &parts.zero_points {
            None => None,
            Some(wanted) => Some(self.part(name, &names::zero_point_name(name), wanted)?),
        };
        let of_slot = |slot: usize| {
            let bytes = &self.header.tensors[slot].bytes;
            bytes.end - bytes.start
        };
        let bytes = of_slot(codes) + of_slot(scales) + zero_points.map_or(0, of_slot);
        let entry = Entry { id, shape, stored: Stored::Quantized(scheme), bytes };
        Ok((codes, entry, Source::Quantized { scheme, codes, scales, zero_points }))
    }

    /// The position of a part, once its type and shape are right.
    fn part(
        &mut self,
        of: &str,
        name: &str,
        (dtype, shape): &(Dtype, Vec<usize>),
    ) -> Result<usize, SafetensorsError> {
        let Some(&position) = self.by_name.get(name) else {
            return Err(SafetensorsError::MissingTensor { id: of.into(), part: name.into() });
        };
        let slot = &self.header.tensors[position];
        if (slot.dtype, &slot.shape) != (*dtype, shape) {
            let (expected, found) = (describe(*dtype, shape), slot.describe());
            return Err(SafetensorsError::Layout { id: name.into(), expected, found });
        }
        if core::mem::replace(&mut self.taken[position], true) {
            // Part of two tensors.
            return Err(SafetensorsError::DuplicateName { id: name.into() });
        }
        Ok(position)
    }

    fn plain(&mut self, position: usize, slot: &Slot) {
        let id = ParamId::new(&*slot.name);
        let stored = match slot.dtype {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::Bf16,
            _ => {
                let kind = format!("{FOREIGN}{}", slot.describe());
                return self.catalog.states.push(StateSource { id, kind, slot: position });
            }
        };
        let (shape, bytes) = (slot.shape.clone(), slot.bytes.end - slot.bytes.start);
        self.catalog.entries.push(Entry { id, shape, stored, bytes });
        self.catalog.sources.push(Source::Float(position));
    }
}

/// The start of the kind of a state that is a foreign tensor: `tensor/I64 [1, 512]`.
const FOREIGN: &str = "tensor/";

/// Type and shape of the foreign tensor that a state of this kind and length is.
pub(super) fn foreign(kind: &str, len: usize) -> Option<(Dtype, Vec<usize>)> {
    let (dtype, shape) = kind.strip_prefix(FOREIGN)?.split_once(' ')?;
    let dtype = Dtype::of(dtype)?;
    let shape: Vec<usize> = serde_json::from_str(shape).ok()?;
    (dtype.byte_count(&shape) == Some(len as u64)).then_some((dtype, shape))
}
