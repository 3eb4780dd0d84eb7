//! Writing: a layout for all tensors, then their bytes, each where it belongs.
//!
//! Wide elements lie before narrow ones, so that each starts on a multiple of its size however many
//! tensors there are; the header names them in the model's order.

use std::io::{Seek, SeekFrom, Write};

use super::catalog::foreign;
use super::dtype::Dtype;
use super::header::{Header, Slot};
use super::names::{self, Parts};
use super::{Manifest, SafetensorsError};
use quant::__private::{DeclaredOrder, Payload};
use quant::record::{RecordEntry, RecordError, RecordFormatError};
use quant::tensor::{Tensor, TensorError};

/// The widths of elements in bits, in the order in which they lie in a file.
pub(super) const WIDTHS: [usize; 6] = [64, 32, 16, 8, 6, 4];

/// Where everything of an manifest goes.
pub(super) struct Layout {
    header: Header,
    /// The slots of each entry: values, scales, zero points.
    entries: Vec<Vec<usize>>,
    /// The slot of each state.
    states: Vec<usize>,
}

impl Layout {
    pub(super) fn new(manifest: &Manifest) -> Result<Self, RecordError> {
        let mut layout = Self { header: Header::default(), entries: vec![], states: vec![] };
        for (key, value) in &manifest.metadata {
            if key.starts_with(names::RESERVED) {
                return Err(SafetensorsError::ReservedKey { key: key.clone() }.into());
            }
            layout.header.metadata.insert(key.clone(), value.clone());
        }
        for entry in &manifest.entries {
            layout.entry(entry)?;
        }
        for state in &manifest.states {
            layout.state(state.id.as_str(), &state.kind, state.data.len())?;
        }
        layout.check_names()?;
        layout.place();
        Ok(layout)
    }

    fn entry(&mut self, entry: &RecordEntry) -> Result<(), RecordError> {
        let RecordEntry { id, shape, scheme, .. } = entry;
        let Some(scheme) = *scheme else {
            let slot = self.slot(id.as_str().into(), Dtype::F32, shape.clone())?;
            self.entries.push(vec![slot]);
            return Ok(());
        };
        let error = |error| {
            RecordError::from(RecordFormatError::Tensor {
                id: id.clone(),
                source: TensorError::from(error),
            })
        };
        let Parts { codes, scales, zero_points } = Parts::of(shape, scheme).map_err(error)?;
        let mut slots = vec![
            self.slot(id.as_str().into(), codes.0, codes.1)?,
            self.slot(names::scale_name(id.as_str()), scales.0, scales.1)?,
        ];
        if let Some((dtype, shape)) = zero_points {
            slots.push(self.slot(names::zero_point_name(id.as_str()), dtype, shape)?);
        }
        self.entries.push(slots);
        let key = format!("{}{id}", names::TENSOR);
        self.header.metadata.insert(key, names::description(scheme, shape));
        Ok(())
    }

    fn state(&mut self, id: &str, kind: &str, len: usize) -> Result<(), RecordError> {
        let slot = match foreign(kind, len) {
            Some((dtype, shape)) => self.slot(id.into(), dtype, shape)?,
            None => {
                let key = format!("{}{id}", names::STATE);
                self.header.metadata.insert(key.clone(), kind.into());
                self.slot(key, Dtype::U8, vec![len])?
            }
        };
        self.states.push(slot);
        Ok(())
    }

    /// Adds a tensor whose place is found later; its length stands for its bytes until then.
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
        let mut names = std::collections::HashSet::new();
        match self.header.tensors.iter().find(|slot| !names.insert(&slot.name)) {
            Some(twice) => Err(SafetensorsError::DuplicateName { id: twice.name.as_str().into() }),
            None => Ok(()),
        }
    }

    fn place(&mut self) {
        let slots = &mut self.header.tensors;
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_by_key(|&slot| core::cmp::Reverse(slots[slot].dtype.bits()));
        let mut at = 0;
        for slot in order {
            let len = slots[slot].bytes.end;
            slots[slot].bytes = at..at + len;
            at += len;
        }
    }

    /// The bytes before the first tensor.
    pub(super) fn header(&self) -> Vec<u8> {
        self.header.encode()
    }

    /// The parts of an entry: values, scales, zero points.
    pub(super) fn slots(&self, entry: usize) -> impl Iterator<Item = &Slot> {
        self.entries[entry].iter().map(|&slot| &self.header.tensors[slot])
    }

    /// The tensor of each state.
    pub(super) fn states(&self) -> impl Iterator<Item = &Slot> {
        self.states.iter().map(|&slot| &self.header.tensors[slot])
    }
}

/// Writes tensors in the manifest's order to where the layout puts them.
pub(crate) struct SafetensorsWriter<W> {
    file: W,
    order: DeclaredOrder,
    /// Where the first tensor lies.
    data: u64,
    layout: Layout,
}

impl<W: Write + Seek> SafetensorsWriter<W> {
    pub(crate) fn new(mut file: W, manifest: Manifest) -> Result<Self, RecordError> {
        let layout = Layout::new(&manifest)?;
        let header = layout.header();
        file.write_all(&header)?;
        let data = header.len() as u64;
        // Names that are there twice have been found by the layout.
        let mut writer = Self { file, order: DeclaredOrder::new(manifest.entries), data, layout };
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
        for (part, payload) in Payload::of(tensor.into()).iter().enumerate() {
            if let Some(&slot) = self.layout.entries[self.order.position()].get(part) {
                self.seek(slot)?;
                payload.chunks(|bytes| self.file.write_all(bytes))?;
            }
        }
        self.order.end();
        Ok(())
    }

    /// The file, once everything has been written.
    pub(crate) fn finish(mut self) -> Result<W, RecordError> {
        self.order.check_finished()?;
        self.file.flush()?;
        Ok(self.file)
    }
}
