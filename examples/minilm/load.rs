//! From a checkpoint's folder, or a record, to a model.

use std::error::Error;
use std::fs::File;
use std::path::Path;

use quant::{BincodeRecorder, Module, Record, Tensor};
use safetensors::{Dtype, SafeTensors};

use crate::{Config, MiniLm};

/// Why a model cannot be loaded.
pub type LoadError = Box<dyn Error + Send + Sync>;

/// What of the checkpoint is not used for sentence embeddings.
const UNUSED: [&str; 2] = ["embeddings.position_ids", "pooler."];

/// The model in `folder`: `config.json` and `model.safetensors`, or `record` in place of the latter.
///
/// # Errors
/// Files that are missing or do not fit each other.
pub fn load(folder: &Path, record: Option<&Path>) -> Result<MiniLm, LoadError> {
    let config: Config = serde_json::from_reader(File::open(folder.join("config.json"))?)?;
    let model = MiniLm::new(config);
    Ok(match record {
        Some(record) => model.load_file(record, &BincodeRecorder::default())?,
        None => model.load_record(record_of(&folder.join("model.safetensors"))?)?,
    })
}

/// The parameters in a file of safetensors.
///
/// # Errors
/// A file that cannot be read, or tensors that are not f32.
pub fn record_of(path: &Path) -> Result<Record, LoadError> {
    let bytes = std::fs::read(path)?;
    let mut record = Record::new();
    for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
        if UNUSED.iter().any(|unused| name.starts_with(unused)) {
            continue;
        }
        if view.dtype() != Dtype::F32 {
            return Err(format!("{name} is {:?}, f32 is needed", view.dtype()).into());
        }
        let (values, _) = view.data().as_chunks::<4>();
        let values = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        record.insert(name, Tensor::from_values(view.shape(), values)?);
    }
    Ok(record)
}
