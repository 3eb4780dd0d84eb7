//! Models from and to GGUF.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use quant::RecordError;
use quant::module::Walk;
use quant::record::{Manifest, Record, Recorder};

use super::layout::Layout;
use super::reader;
use super::writer::{content, pad};
use crate::declared::{check_values, for_each_param};
use crate::rename::Rename;

/// Loads and saves models in GGUF files, as llama.cpp has them.
///
/// Tensors are loaded as parameters: floats as they are, `Q8_0`, `Q5_0`, `Q5_1`, `Q4_0` and `Q4_1`
/// quantized by their [scheme](crate::GgufType::scheme), other blocks in single precision. Integers
/// and doubles become states. Parameters of floats and of these schemes are saved; any other scheme
/// is an error, because GGUF has no type for it.
///
/// [`Checkpoint::load_into`](crate::Checkpoint::load_into) loads models from files that are split.
///
/// ```
/// use quant::{Module, Param};
/// use quant_formats::{GgufRecorder, Rename};
///
/// #[derive(Module)]
/// struct Model { layers: Vec<Param<[f32; 2]>> }
///
/// let foreign = vec![Param::new([1.0f32, 2.0])].save_bytes(&GgufRecorder::default())?;
///
/// let rename = Rename::new().replace(r"^(\d+)$", "layers.$1")?;
/// let model = Model { layers: vec![Param::new([0.0; 2])] };
/// let model = model.load_bytes(&foreign, &GgufRecorder::default().rename(rename))?;
/// assert_eq!(*model.layers[0].value(), [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GgufRecorder {
    metadata: BTreeMap<String, String>,
    rename: Rename,
}

impl GgufRecorder {
    /// Adds a key and its value, a string, to the metadata of saved files.
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

impl Recorder for GgufRecorder {
    fn save(&self, model: &dyn Walk, writer: &mut dyn Write) -> Result<(), RecordError> {
        let manifest = Manifest::of_model(model, &self.metadata);
        let layout = Layout::new(&manifest, false)?;
        check_values(model, &manifest.entries)?;
        writer.write_all(&layout.header)?;
        for_each_param(model, &manifest.entries, |at, param| {
            content(param, |payload| payload.chunks(|bytes| writer.write_all(bytes)))?;
            Ok(pad(writer, layout.padding(&layout.entries[at]))?)
        })?;
        for (slot, state) in layout.states.iter().zip(&manifest.states) {
            if let Some(slot) = slot {
                writer.write_all(&state.data)?;
                pad(writer, layout.padding(slot))?;
            }
        }
        Ok(writer.flush()?)
    }

    fn load(&self, reader: &mut dyn Read, len: Option<u64>) -> Result<Record, RecordError> {
        Ok(self.rename.record(reader::load(reader, len)?)?)
    }
}
