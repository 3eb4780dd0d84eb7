//! Writing: first the layout of all tensors, then their bytes, each at its position.
//!
//! Tensors with wide elements come first, so that every element is aligned to its size. The header
//! lists tensors in the order of the model.

use std::collections::HashSet;
use std::io::{self, Seek, SeekFrom, Write};

use quant::__private::{DeclaredOrder, LaterStates, Payload};
use quant::RecordError;
use quant::Tensor;
use quant::record::{LaterState, Manifest, RecordEntry, RecordFormatError};
use quant::tensor::TensorError;

use super::catalog::foreign;
use super::dtype::Dtype;
use super::error::SafetensorsError;
use super::header::{self, Header, Slot};
use super::names::{self, Components};

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
        let mut writer = Self { file, order, later, data, layout };
        for (state, slot) in manifest.states.iter().zip(writer.layout.states.clone()) {
            writer.seek(slot)?;
            writer.file.write_all(&state.data)?;
        }
        Ok(writer)
    }

    fn seek(&mut self, slot: usize) -> Result<(), RecordError> {
        let at = self.data + self.layout.header.tensors[slot].bytes.start;
        self.file.seek(SeekFrom::Start(at))?;
        Ok(())
    }

    /// Writes the next tensor.
    pub(crate) fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError> {
        self.order.begin(id, tensor.into())?;
        for (component, payload) in Payload::of(tensor.into()).iter().enumerate() {
            if let Some(&slot) = self.layout.entries[self.order.position()].get(component) {
                self.seek(slot)?;
                payload.chunks(|bytes| self.file.write_all(bytes))?;
            }
        }
        self.order.end();
        Ok(())
    }

    /// Writes the next state that the manifest declares without its bytes.
    pub(crate) fn write_state(&mut self, id: &str, data: &[u8]) -> Result<(), RecordError> {
        self.order.check_finished()?;
        let position = self.later.position();
        self.later.next(id, data.len() as u64)?;
        self.seek(self.layout.later_states[position])?;
        Ok(self.file.write_all(data)?)
    }

    /// Returns the file; an error if tensors or states are missing.
    pub(crate) fn finish(mut self) -> Result<W, RecordError> {
        self.order.check_finished()?;
        self.later.check_finished()?;
        self.file.flush()?;
        Ok(self.file)
    }
}
