//! Writing: first the layout of all tensors, then their bytes, each at its position.

use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;

use quant::__private::{DeclaredOrder, LaterStates, Payload};
use quant::RecordError;
use quant::module::ParamView;
use quant::record::{Manifest, ManifestError};

use super::header::Slot;
use super::layout::Layout;
use crate::ggml::tensor_to_blocks;
use crate::sink::{Next, Part};

/// Writes tensors in the order of the manifest to their positions in the layout.
pub(crate) struct GgufWriter<W> {
    file: W,
    order: DeclaredOrder,
    later: LaterStates,
    layout: Layout,
    /// What is not written yet of the tensor or state that was begun.
    open: Range<u64>,
    /// The bytes of padding after it.
    padding: u64,
    /// Whether it is a state.
    is_state: bool,
}

impl<W: Write + Seek> GgufWriter<W> {
    pub(crate) fn new(file: W, manifest: Manifest) -> Result<Self, RecordError> {
        let layout = Layout::new(&manifest, true)?;
        let Manifest { entries, states, later_states, .. } = manifest;
        // The layout has checked that names are unique.
        let (order, later) = (DeclaredOrder::new(entries), LaterStates::new(later_states));
        let (open, padding, is_state) = (0..0, 0, true);
        let mut writer = Self { file, order, later, layout, open, padding, is_state };
        writer.file.write_all(&writer.layout.header)?;
        for (position, state) in states.into_iter().enumerate() {
            if let Some(slot) = writer.layout.states[position].clone() {
                writer.open_slot(&slot);
                writer.put(&Payload::Bytes(&state.data))?;
                writer.end()?;
            }
        }
        Ok(writer)
    }

    fn open_slot(&mut self, slot: &Slot) {
        (self.open, self.padding) = (slot.bytes.clone(), self.layout.padding(slot));
    }

    /// Writes the next bytes of the tensor or state.
    fn put(&mut self, payload: &Payload<'_>) -> Result<(), RecordError> {
        let (file, open) = (&mut self.file, &mut self.open);
        file.seek(SeekFrom::Start(self.layout.header.len() as u64 + open.start))?;
        payload.chunks(|bytes| {
            open.start += bytes.len() as u64;
            if open.start > open.end {
                return Err(RecordError::from(ManifestError::Failed));
            }
            Ok(file.write_all(bytes)?)
        })
    }

    /// Begins the next tensor, or the next state that the manifest declares without its bytes.
    pub(crate) fn begin(&mut self, next: Next<'_>) -> Result<(), RecordError> {
        let slot = match next {
            Next::Tensor(entry) => {
                self.order.begin_entry(entry)?;
                self.layout.entries[self.order.position()].clone()
            }
            Next::State { id, len } => {
                self.order.check_finished()?;
                let position = self.later.position();
                self.later.next(id, len)?;
                self.layout.later_states[position].clone()
            }
        };
        self.open_slot(&slot);
        self.is_state = matches!(next, Next::State { .. });
        Ok(())
    }

    /// Writes what follows in the tensor or state.
    pub(crate) fn part(&mut self, part: Part<'_>) -> Result<(), RecordError> {
        match part {
            Part::Bytes(bytes) => self.put(&Payload::Bytes(bytes)),
            Part::Tensor(tensor) => {
                self.order.check_part(tensor.into())?;
                content(tensor.into(), |payload| self.put(payload))
            }
        }
    }

    /// Ends the tensor or state, of which all has been written.
    pub(crate) fn end(&mut self) -> Result<(), RecordError> {
        if !self.open.is_empty() {
            return Err(ManifestError::Failed.into());
        }
        let end = self.layout.header.len() as u64 + self.open.end;
        self.file.seek(SeekFrom::Start(end))?;
        pad(&mut self.file, self.padding)?;
        if !self.is_state {
            self.order.end();
        }
        Ok(())
    }

    /// Returns the file; an error if tensors or states are missing.
    pub(crate) fn finish(mut self) -> Result<W, RecordError> {
        self.order.check_finished()?;
        self.later.check_finished()?;
        if !self.open.is_empty() {
            return Err(ManifestError::Failed.into());
        }
        self.file.flush()?;
        Ok(self.file)
    }
}

/// Calls `write` with the bytes of a tensor: those of a float, or blocks.
pub(super) fn content<T>(param: ParamView<'_>, write: impl FnOnce(&Payload<'_>) -> T) -> T {
    match param.quantized() {
        Some(tensor) => write(&Payload::Bytes(&tensor_to_blocks(tensor))),
        None => {
            let [values, ..] = Payload::of(param);
            write(&values)
        }
    }
}

/// Writes zeros.
pub(super) fn pad(file: &mut dyn Write, len: u64) -> std::io::Result<()> {
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), len), file).map(drop)
}
