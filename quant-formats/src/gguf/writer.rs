//! Writing: first the layout of all tensors, then their bytes, each at its position.

use std::io::{Seek, SeekFrom, Write};

use quant::__private::{DeclaredOrder, LaterStates, Payload};
use quant::RecordError;
use quant::Tensor;
use quant::module::ParamView;
use quant::record::Manifest;

use super::header::Slot;
use super::layout::Layout;
use crate::ggml::tensor_to_blocks;

/// Writes tensors in the order of the manifest to their positions in the layout.
pub(crate) struct GgufWriter<W> {
    file: W,
    order: DeclaredOrder,
    later: LaterStates,
    layout: Layout,
}

impl<W: Write + Seek> GgufWriter<W> {
    pub(crate) fn new(file: W, manifest: Manifest) -> Result<Self, RecordError> {
        let layout = Layout::new(&manifest, true)?;
        let Manifest { entries, states, later_states, .. } = manifest;
        // The layout has checked that names are unique.
        let (order, later) = (DeclaredOrder::new(entries), LaterStates::new(later_states));
        let mut writer = Self { file, order, later, layout };
        writer.file.write_all(&writer.layout.header)?;
        for (position, state) in states.into_iter().enumerate() {
            if let Some(slot) = writer.layout.states[position].clone() {
                writer.put(&slot, &Payload::Bytes(&state.data))?;
            }
        }
        Ok(writer)
    }

    /// Writes a tensor and the padding after it.
    fn put(&mut self, slot: &Slot, payload: &Payload<'_>) -> Result<(), RecordError> {
        self.file.seek(SeekFrom::Start(self.layout.header.len() as u64 + slot.bytes.start))?;
        payload.chunks(|bytes| self.file.write_all(bytes))?;
        Ok(pad(&mut self.file, self.layout.padding(slot))?)
    }

    /// Writes the next tensor.
    pub(crate) fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError> {
        self.order.begin(id, tensor.into())?;
        let slot = self.layout.entries[self.order.position()].clone();
        content(tensor.into(), |payload| self.put(&slot, payload))?;
        self.order.end();
        Ok(())
    }

    /// Writes the next state that the manifest declares without its bytes.
    pub(crate) fn write_state(&mut self, id: &str, data: &[u8]) -> Result<(), RecordError> {
        self.order.check_finished()?;
        let slot = self.layout.later_states.get(self.later.position()).cloned();
        self.later.next(id, data.len() as u64)?;
        slot.map_or(Ok(()), |slot| self.put(&slot, &Payload::Bytes(data)))
    }

    /// Returns the file; an error if tensors or states are missing.
    pub(crate) fn finish(mut self) -> Result<W, RecordError> {
        self.order.check_finished()?;
        self.later.check_finished()?;
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
