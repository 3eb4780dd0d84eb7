//! Where everything is in a file that is to be written.

use std::collections::{BTreeMap, HashMap, HashSet};

use quant::ParamId;
use quant::RecordError;
use quant::record::{LaterState, Manifest, RecordEntry, RecordState, Stored};
use quant::tensor::FloatType;

use super::carried::{header_of, is_header};
use super::cursor::LIMIT;
use super::error::GgufError;
use super::header::{DEFAULT_ALIGNMENT, Header, MAX_RANK, Slot, VERSION, start};
use super::metadata::{ALIGNMENT, parsed_pair, string, string_pair};
use crate::ggml::{GgufType, tensor_of_kind, type_of_scheme};

/// The longest name of a tensor in bytes. The format allows one more, ggml does not.
const MAX_NAME: usize = 63;

/// The header of a file, and the positions of its tensors.
pub(super) struct Layout {
    /// With padding up to the first tensor.
    pub(super) header: Vec<u8>,
    /// The tensor of each entry of the manifest.
    pub(super) entries: Vec<Slot>,
    /// The tensor of each state; `None` for the header.
    pub(super) states: Vec<Option<Slot>>,
    /// The tensor of each state that is written later.
    pub(super) later_states: Vec<Slot>,
    alignment: u64,
}

impl Layout {
    /// Places the tensors of a manifest: in its order, or, if they are to be `ordered`, in that of
    /// the GGUF file from which they come.
    pub(super) fn new(manifest: &Manifest, ordered: bool) -> Result<Self, RecordError> {
        let source = source_header(&manifest.states)?;
        let alignment = source.as_ref().map_or(DEFAULT_ALIGNMENT, |source| source.alignment);
        let mut entries = manifest.entries.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let mut states = manifest.states.iter().map(state).collect::<Result<Vec<_>, _>>()?;
        let mut later_states =
            manifest.later_states.iter().map(later_state).collect::<Result<Vec<_>, _>>()?;
        let tensors = entries.iter_mut().chain(states.iter_mut().flatten());
        let mut slots: Vec<&mut Slot> = tensors.chain(&mut later_states).collect();
        check_names(&slots)?;
        if let Some(source) = source.as_ref().filter(|_| ordered) {
            let order = source.tensors.iter().enumerate();
            let order: HashMap<&str, usize> = order.map(|(i, slot)| (&*slot.name, i)).collect();
            slots.sort_by_key(|slot| order.get(&*slot.name).copied().unwrap_or(usize::MAX));
        }
        let mut at = 0;
        for slot in &mut slots {
            let len = slot.bytes.end;
            slot.bytes = at..at + len;
            at = slot.bytes.end.next_multiple_of(alignment.into());
        }
        let pairs = pairs(source.as_ref(), &manifest.metadata)?;
        let version = source.map_or(VERSION, |source| source.version);
        let header = encode(version, alignment, &pairs, &slots)?;
        Ok(Self { header, entries, states, later_states, alignment: alignment.into() })
    }

    /// The bytes of padding after a tensor. The last tensor has them, too, as in files of ggml.
    pub(super) fn padding(&self, slot: &Slot) -> u64 {
        slot.bytes.end.next_multiple_of(self.alignment) - slot.bytes.end
    }
}

/// The header of the file from which the tensors come, if they come from a GGUF file.
fn source_header(states: &[RecordState]) -> Result<Option<Header>, RecordError> {
    states.iter().find(|state| is_header(state)).map(header_of).transpose()
}

fn entry(entry: &RecordEntry) -> Result<Slot, GgufError> {
    let RecordEntry { id, shape, stored, .. } = entry;
    let ty = match stored {
        Stored::Float(FloatType::F32) => Some(GgufType::F32),
        Stored::Float(FloatType::F16) => Some(GgufType::F16),
        Stored::Float(FloatType::Bf16) => Some(GgufType::BF16),
        Stored::Quantized(scheme) => type_of_scheme(*scheme),
        _ => None,
    };
    match ty {
        Some(ty) => slot(id, ty, shape),
        None => Err(GgufError::NoType { id: id.clone(), stored: stored.to_string() }),
    }
}

fn state(state: &RecordState) -> Result<Option<Slot>, GgufError> {
    if is_header(state) {
        return Ok(None);
    }
    let RecordState { id, kind, data } = state;
    tensor(id, kind, data.len() as u64).map(Some)
}

fn later_state(LaterState { id, kind, len }: &LaterState) -> Result<Slot, GgufError> {
    tensor(id, kind, *len)
}

/// The tensor that a state of this kind is.
fn tensor(id: &ParamId, kind: &str, len: u64) -> Result<Slot, GgufError> {
    match tensor_of_kind(kind, len) {
        Some((ty, shape)) => slot(id, ty, &shape),
        None => Err(GgufError::NoType { id: id.clone(), stored: kind.into() }),
    }
}

/// A tensor whose bytes start at 0 until they are placed.
fn slot(id: &ParamId, ty: GgufType, shape: &[usize]) -> Result<Slot, GgufError> {
    let name = id.as_str();
    if name.len() > MAX_NAME {
        return Err(GgufError::NameTooLong { id: id.clone(), limit: MAX_NAME });
    }
    if shape.len() > MAX_RANK {
        return Err(GgufError::Rank { id: id.clone(), rank: shape.len() as u64 });
    }
    if !ty.divides_row(shape) {
        let row = shape.last().copied().unwrap_or(1);
        return Err(GgufError::Row { id: id.clone(), row, ty });
    }
    let Some(len) = ty.byte_count(shape) else {
        let shape = shape.iter().map(|&extent| extent as u64).collect();
        return Err(GgufError::Shape { id: id.clone(), shape });
    };
    Ok(Slot { name: name.into(), ty, shape: shape.into(), bytes: 0..len })
}

fn check_names(slots: &[&mut Slot]) -> Result<(), GgufError> {
    let mut names = HashSet::new();
    match slots.iter().find(|slot| !names.insert(&*slot.name)) {
        Some(slot) => Err(GgufError::DuplicateName { id: slot.name.as_str().into() }),
        None => Ok(()),
    }
}

/// The pairs of a file: those of its source, of which some may have other values now, then others.
fn pairs(
    source: Option<&Header>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<Vec<u8>>, GgufError> {
    let (mut pairs, mut seen) = (Vec::new(), HashSet::from([ALIGNMENT]));
    if let Some(Header { pairs: sources, bytes, .. }) = source {
        for pair in sources {
            let key = &*pair.key;
            let changed = metadata
                .get(key)
                .filter(|&text| key != ALIGNMENT && pair.text(bytes).as_ref() != Some(text));
            pairs.push(match changed {
                Some(text) => parsed_pair(key, pair.ty, text)?,
                None => bytes[pair.bytes.clone()].to_vec(),
            });
            seen.insert(key);
        }
    }
    let others = metadata.iter().filter(|(key, _)| !seen.contains(&***key));
    pairs.extend(others.map(|(key, value)| string_pair(key, value)));
    Ok(pairs)
}

fn encode(
    version: u32,
    alignment: u32,
    pairs: &[Vec<u8>],
    slots: &[&mut Slot],
) -> Result<Vec<u8>, GgufError> {
    let mut header = start(version, slots.len(), pairs.len());
    pairs.iter().for_each(|pair| header.extend(pair));
    for Slot { name, ty, shape, bytes } in slots.iter().map(|slot| &**slot) {
        header.extend(string(name));
        header.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&extent| header.extend((extent as u64).to_le_bytes()));
        header.extend(ty.id().to_le_bytes());
        header.extend(bytes.start.to_le_bytes());
    }
    if header.len() as u64 > LIMIT {
        return Err(GgufError::HeaderTooLong { limit: LIMIT });
    }
    header.resize(header.len().next_multiple_of(alignment as usize), 0);
    Ok(header)
}
