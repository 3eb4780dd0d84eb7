//! From a checkpoint's folder, or a record, to a model.

use std::error::Error;
use std::fs::File;
use std::path::Path;

use quant::{BincodeRecorder, Module};
use quant_formats::{Rename, SafetensorsRecorder};

use crate::{Config, MiniLm};

/// Why a model cannot be loaded.
pub type LoadError = Box<dyn Error + Send + Sync>;

/// The model in `folder`: `config.json` and `model.safetensors`, or `record` in place of the latter.
///
/// # Errors
/// Files that are missing or do not fit each other.
pub fn load(folder: &Path, record: Option<&Path>) -> Result<MiniLm, LoadError> {
    let config: Config = serde_json::from_reader(File::open(folder.join("config.json"))?)?;
    let model = MiniLm::new(config);
    if let Some(record) = record {
        return Ok(model.load_file(record, &BincodeRecorder::default())?);
    }
    // What sentence embeddings have no use for.
    let rename = Rename::new().omit("embeddings.position_ids").omit("pooler.**");
    let recorder = SafetensorsRecorder::default().rename(rename);
    Ok(model.load_file(folder.join("model.safetensors"), &recorder)?)
}
