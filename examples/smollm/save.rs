//! A quantized model in a file of its own, with the sizes and the tokenizer of the file that it was made
//! from.

use std::path::Path;

use clap::ValueEnum;
use quant::kernel::scheme::KeyValueScheme;
use quant::record::Record;
use quant::{BincodeRecorder, Module};

use crate::{Checkpoint, Llama, Scheme, SmolError};

/// The keys of the metadata of a saved model.
const SCHEME: &str = "smollm.scheme";
const KEYS_VALUES: &str = "smollm.keys-values";

/// How a model was quantized when it was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Weights and inputs.
    pub scheme: Scheme,
    /// Keys and values.
    pub keys_values: KeyValueScheme,
}

impl Saved {
    /// That of a file; `None` if the file is not a saved model.
    pub(crate) fn read(checkpoint: &quant_formats::Checkpoint) -> Result<Option<Self>, SmolError> {
        let Some(scheme) = checkpoint.metadata().get(SCHEME) else { return Ok(None) };
        let unknown = |key: &str| SmolError::Metadata { key: key.into() };
        let scheme = Scheme::from_str(scheme, false).map_err(|_| unknown(SCHEME))?;
        let keys_values = checkpoint.metadata().get(KEYS_VALUES);
        let keys_values = keys_values.and_then(|name| name.parse().ok());
        let keys_values = keys_values.ok_or_else(|| unknown(KEYS_VALUES))?;
        Ok(Some(Self { scheme, keys_values }))
    }
}

impl Checkpoint {
    /// Saves a model of this file, quantized so, as a record. [`Checkpoint::open`] opens it like the file,
    /// and [`Checkpoint::model`] gives the same model, whose logits have the same bits.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn save(&self, model: &Llama, how: Saved, path: &Path) -> Result<(), SmolError> {
        let mut record = Record::from_module(model).map_err(SmolError::Save)?;
        // The header of the GGUF file, in which sizes and tokenizer are.
        let own = record.states().iter().map(|state| state.id.clone()).collect::<Vec<_>>();
        let others = self.checkpoint.states()?.into_iter().filter(|state| !own.contains(&state.id));
        for state in others {
            record.insert_state(state);
        }
        let recorder = BincodeRecorder::default()
            .metadata(SCHEME, how.scheme.to_string())
            .metadata(KEYS_VALUES, how.keys_values.to_string());
        record.save_file(path, &recorder).map_err(SmolError::Save)
    }
}
