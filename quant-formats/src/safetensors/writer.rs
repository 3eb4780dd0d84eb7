//! Writing: first the layout of all tensors, then their bytes, each at its position.
//!
//! Tensors with wide elements come first, so that every element is aligned to its size. The header
//! lists tensors in the order of the model.

use std::collections::HashSet;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;

use quant::__private::{DeclaredOrder, LaterStates, Payload};
use quant::RecordError;
use quant::record::{LaterState, Manifest, ManifestError, RecordEntry, RecordFormatError};
use quant::tensor::TensorError;

use super::catalog::foreign;
use super::dtype::Dtype;
use super::error::SafetensorsError;
use super::header::{self, Header, Slot};
use super::names::{self, Components};
use crate::sink::{Next, Part};

/// The widths of elements in bits, in the order of a file.
pub(super) const WIDTHS: [usize; 6] = [64, 32, 16, 8, 6, 4];

/// The positions of all tensors and states of a manifest.
#[derive(Default)]
pub(super) struct Layout {
    header: Header,
    /// The position in the header of each entry's values, scales and zero points or minimums.
    entries: Vec<Vec<usize>>,
    /// The position in the header of each state.
    states: Vec<usize>,
    /// The position in the header of each state that is written later.
    later_states: Vec<usize>,
    encoded: Vec<u8>,
}

impl Layout {
    pub(super) fn new(manifest: &Manifest) -> Result<Self, RecordError> {
        let mut layout = Self::default();
        layout.header.metadata = names::stored_metadata(&manifest.metadata);
        for entry in &manifest.entries {
            layout.entry(entry)?;
        }
        for state in &manifest.states {
            let slot = layout.state(state.id.as_str(), &state.kind, state.data.len() as u64)?;
            layout.states.push(slot);
        }
        for LaterState { id, kind, len } in &manifest.later_states {
            let slot = layout.state(id.as_str(), kind, *len)?;
            layout.later_states.push(slot);
        }
        layout.check_names()?;
        layout.header.place();
        layout.encoded = layout.header.encode()?;
        Ok(layout)
    }

    fn entry(&mut self, entry: &RecordEntry) -> Result<(), RecordError> {
        let RecordEntry { id, shape, stored, .. } = entry;
        let Some(scheme) = stored.scheme() else {
            let slot = self.slot(id.as_str().into(), Dtype::of_float(*stored), shape.clone())?;
            self.entries.push(vec![slot]);
            return Ok(());
        };
        let error = |error| {
            RecordError::from(RecordFormatError::Tensor {
                id: id.clone(),
                source: TensorError::from(error),
            })
        };
        let Components { codes, scales, offsets } = Components::of(shape, scheme).map_err(error)?;
        let mut slots = vec![
            self.slot(id.as_str().into(), codes.0, codes.1)?,
            self.slot(names::scale_name(id.as_str()), scales.0, scales.1)?,
        ];
        if let Some((suffix, dtype, shape)) = offsets {
            slots.push(self.slot(format!("{id}{suffix}"), dtype, shape)?);
        }
        self.entries.push(slots);
        let key = format!("{}{id}", names::TENSOR);
        self.header.metadata.insert(key, names::description(scheme, shape));
        Ok(())
    }

    /// Adds a state to the header; its position there.
    fn state(&mut self, id: &str, kind: &str, len: u64) -> Result<usize, RecordError> {
        Ok(match foreign(kind, len) {
            Some((dtype, shape)) => self.slot(id.into(), dtype, shape)?,
            None => {
                let key = format!("{}{id}", names::STATE);
                self.header.metadata.insert(key.clone(), kind.into());
                let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory);
                self.slot(key, Dtype::U8, vec![len.map_err(io::Error::from)?])?
            }
        })
    }

    /// Adds a tensor to the header. Its bytes start at 0 until [`place`](Header::place) moves them.
    fn slot(
        &mut self,
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
    ) -> Result<usize, SafetensorsError> {
        let Some(len) = dtype.byte_count(&shape) else {
            let shape = shape.iter().map(|&extent| extent as u64).collect();
            return Err(SafetensorsError::Shape { id: name.into(), shape });
        };
        self.header.tensors.push(Slot { name, dtype, shape, bytes: 0..len });
        Ok(self.header.tensors.len() - 1)
    }

    fn check_names(&self) -> Result<(), SafetensorsError> {
        let mut names = HashSet::from([header::METADATA]);
        match self.header.tensors.iter().find(|slot| !names.insert(&slot.name)) {
            Some(Slot { name, .. }) if name == header::METADATA => {
                Err(SafetensorsError::ReservedName { id: name.as_str().into() })
            }
            Some(Slot { name, .. }) => {
                Err(SafetensorsError::DuplicateName { id: name.as_str().into() })
            }
            None => Ok(()),
        }
    }

    /// The bytes before the first tensor.
    pub(super) fn header(&self) -> &[u8] {
        &self.encoded
    }

    /// The tensors of an entry: values, scales, zero points or minimums.
    pub(super) fn slots(&self, entry: usize) -> impl Iterator<Item = &Slot> {
        self.entries[entry].iter().map(|&slot| &self.header.tensors[slot])
    }

    /// The tensor of each state.
    pub(super) fn states(&self) -> impl Iterator<Item = &Slot> {
        self.states.iter().map(|&slot| &self.header.tensors[slot])
    }
}

/// Writes tensors in the order of the manifest to their positions in the layout.
pub(crate) struct SafetensorsWriter<W> {
    file: W,
    order: DeclaredOrder,
    later: LaterStates,
    /// The offset of the first tensor.
    data: u64,
    layout: Layout,
    /// What is written of the tensor or state that was begun: the rest of each of its slots.
    open: Vec<Range<u64>>,
    /// Whether that is a state.
    is_state: bool,
}

impl<W: Write + Seek> SafetensorsWriter<W> {
    pub(crate) fn new(mut file: W, manifest: Manifest) -> Result<Self, RecordError> {
        let layout = Layout::new(&manifest)?;
        let header = layout.header();
        file.write_all(header)?;
        let data = header.len() as u64;
        // The layout has checked that names are unique.
        let (order, later) =
            (DeclaredOrder::new(manifest.entries), LaterStates::new(manifest.later_states));
        let open = Vec::new();
        let mut writer = Self { file, order, later, data, layout, open, is_state: false };
        for (state, slot) in manifest.states.iter().zip(writer.layout.states.clone()) {
            writer.open_slots(&[slot]);
            writer.put(0, &Payload::Bytes(&state.data))?;
        }
        Ok(writer)
    }

    fn open_slots(&mut self, slots: &[usize]) {
        let bytes = slots.iter().map(|&slot| self.layout.header.tensors[slot].bytes.clone());
        self.open = bytes.collect();
    }

    /// Writes the next bytes of a slot that is open.
    fn put(&mut self, slot: usize, payload: &Payload<'_>) -> Result<(), RecordError> {
        let Some(open) = self.open.get_mut(slot) else { return Ok(()) };
        self.file.seek(SeekFrom::Start(self.data + open.start))?;
        payload.chunks(|bytes| {
            open.start += bytes.len() as u64;
            if open.start > open.end {
                return Err(RecordError::from(ManifestError::Failed));
            }
            Ok(self.file.write_all(bytes)?)
        })
    }

    /// Begins the next tensor, or the next state that the manifest declares without its bytes.
    pub(crate) fn begin(&mut self, next: Next<'_>) -> Result<(), RecordError> {
        match next {
            Next::Tensor(entry) => {
                self.order.begin_entry(entry)?;
                self.open_slots(&self.layout.entries[self.order.position()].clone());
            }
            Next::State { id, len } => {
                self.order.check_finished()?;
                let position = self.later.position();
                self.later.next(id, len)?;
                self.open_slots(&[self.layout.later_states[position]]);
            }
        }
        self.is_state = matches!(next, Next::State { .. });
        Ok(())
    }

    /// Writes what follows in the tensor or state.
    pub(crate) fn part(&mut self, part: Part<'_>) -> Result<(), RecordError> {
        match part {
            Part::Bytes(bytes) => self.put(0, &Payload::Bytes(bytes)),
            Part::Tensor(tensor) => {
                self.order.check_part(tensor.into())?;
                let payloads = Payload::of(tensor.into());
                (0..).zip(&payloads).try_for_each(|(slot, payload)| self.put(slot, payload))
            }
        }
    }

    /// Ends the tensor or state, of which all has been written.
    pub(crate) fn end(&mut self) -> Result<(), RecordError> {
        check_full(&self.open)?;
        if !self.is_state {
            self.order.end();
        }
        Ok(())
    }

    /// Returns the file; an error if tensors or states are missing.
    pub(crate) fn finish(mut self) -> Result<W, RecordError> {
        self.order.check_finished()?;
        self.later.check_finished()?;
        check_full(&self.open)?;
        self.file.flush()?;
        Ok(self.file)
    }
}

/// Checks that nothing is left to be written of what was begun.
fn check_full(open: &[Range<u64>]) -> Result<(), ManifestError> {
    if open.iter().all(Range::is_empty) { Ok(()) } else { Err(ManifestError::Failed) }
}
