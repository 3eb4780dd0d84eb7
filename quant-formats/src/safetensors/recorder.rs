//! Models from and to safetensors.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use quant::__private::Payload;
use quant::RecordError;
use quant::module::Walk;
use quant::record::{Manifest, Record, Recorder};

use super::reader;
use super::writer::{Layout, WIDTHS};
use crate::declared::{check_values, for_each_param};
use crate::rename::Rename;

/// Loads and saves models in safetensors files.
///
/// Tensors of the types F32, F16 and BF16 are parameters. A quantized
/// parameter is saved as codes, scales and zero points, which torch loads as plain tensors:
///
/// ```text
/// fc.weight             I8   [out, in]      codes; U8 [out, bytes of a row] where several share a byte
/// fc.weight_scale       F32  [out, 1]       shaped so that it broadcasts
/// fc.weight_zero_point  I8   [out, 1]       affine schemes only
/// fc.weight_minimum     F32  [out, 1]       schemes with minimums only
/// __metadata__: "quant.tensor.fc.weight" = "per-channel-symmetric-int8 [out, in]"
/// ```
///
/// The weight is `(w.float() - w_zero_point.float()) * w_scale`, or with a minimum
/// `(w.float() + 2^(bits - 1)) * w_scale + w_minimum`. Per block, there is one scale for
/// each block of a row. This recorder loads the quantized parameter.
///
/// [`Checkpoint::load_into`](crate::Checkpoint::load_into) loads models from shards and directories, and
/// from what another program has quantized.
///
/// ```
/// use quant::{Module, Param};
/// use quant_formats::{Rename, SafetensorsRecorder};
///
/// #[derive(Module)]
/// struct Model { layers: Vec<Param<[f32; 2]>> }
///
/// let foreign = vec![Param::new([1.0f32, 2.0])].save_bytes(&SafetensorsRecorder::default())?;
///
/// let rename = Rename::new().replace(r"^(\d+)$", "layers.$1")?;
/// let model = Model { layers: vec![Param::new([0.0; 2])] };
/// let model = model.load_bytes(&foreign, &SafetensorsRecorder::default().rename(rename))?;
/// assert_eq!(*model.layers[0].value(), [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SafetensorsRecorder {
    metadata: BTreeMap<String, String>,
    rename: Rename,
}

impl SafetensorsRecorder {
    /// Adds a key and its value to the metadata of saved files.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Renames tensors and states that are loaded.
    #[must_use]
    pub fn rename(self, rename: Rename) -> Self {
        Self { rename, ..self }
    }
}

impl Recorder for SafetensorsRecorder {
    fn save(&self, model: &dyn Walk, writer: &mut dyn Write) -> Result<(), RecordError> {
        let manifest = Manifest::of_model(model, &self.metadata);
        let layout = Layout::new(&manifest)?;
        check_values(model, &manifest.entries)?;
        writer.write_all(layout.header())?;
        // The widest elements come first in the file: one walk for each width.
        for bits in WIDTHS {
            for_each_param(model, &manifest.entries, |at, param| {
                for (slot, payload) in layout.slots(at).zip(Payload::of(param)) {
                    if slot.dtype.bits() == bits {
                        payload.chunks(|bytes| writer.write_all(bytes))?;
                    }
                }
                Ok(())
            })?;
            for (slot, state) in layout.states().zip(&manifest.states) {
                if slot.dtype.bits() == bits {
                    writer.write_all(&state.data)?;
                }
            }
        }
        Ok(writer.flush()?)
    }

    fn load(&self, reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError> {
        Ok(self.rename.record(reader::load(reader, len)?)?)
    }
}
