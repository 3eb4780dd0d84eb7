//! What each tensor of a checkpoint becomes in a model directory.

use std::collections::HashSet;

use quant::{QuantizationScheme, RecordError};

use super::compressed::{Compressed, Inputs, Slot};
use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, Stored};
use crate::error::CheckpointError;
use crate::folder_error::FolderError;
use crate::safetensors::{Dtype, SafetensorsError, foreign};

/// How a tensor is written.
pub(super) enum Form {
    /// With the bytes of its file.
    AsStored,
    /// In single precision.
    Floats,
    Compressed(Compressed),
}

/// How each entry is written; `scheme` is that of an entry that is going to be quantized.
pub(super) fn forms(
    from: &Checkpoint,
    inputs: Inputs,
    scheme: impl Fn(usize) -> Option<QuantizationScheme>,
) -> Result<Vec<Form>, FolderError> {
    let form = |(index, entry): (usize, &Entry)| match (scheme(index), entry.stored) {
        (Some(scheme), _) => {
            Compressed::new(&entry.id, &entry.shape, scheme, inputs).map(Form::Compressed)
        }
        (None, Stored::Quantized(_) | Stored::PreQuantized(_) | Stored::Blocks(_)) => {
            Ok(Form::Floats)
        }
        (None, _) => Ok(Form::AsStored),
    };
    from.entries().iter().enumerate().map(form).collect()
}

/// The tensors that each entry, and then each state, becomes.
pub(super) fn outputs(
    from: &Checkpoint,
    forms: &[Form],
) -> Result<Vec<Vec<Slot>>, CheckpointError> {
    let mut outputs = Vec::new();
    for (entry, form) in from.entries().iter().zip(forms) {
        let plain = |dtype| vec![(entry.id.to_string(), dtype, entry.shape.clone())];
        outputs.push(match (form, entry.stored) {
            (Form::Compressed(form), _) => form.slots(&entry.id),
            (Form::AsStored, Stored::F16) => plain(Dtype::F16),
            (Form::AsStored, Stored::Bf16) => plain(Dtype::BF16),
            (Form::AsStored | Form::Floats, _) => plain(Dtype::F32),
        });
    }
    for state in from.state_entries() {
        let Some((dtype, shape)) = foreign(&state.kind, state.bytes) else {
            return Err(FolderError::State { id: state.id }.into());
        };
        outputs.push(vec![(state.id.to_string(), dtype, shape)]);
    }
    let mut names = HashSet::new();
    match outputs.iter().flatten().find(|(name, ..)| !names.insert(name)) {
        Some((name, ..)) => {
            let id = name.as_str().into();
            Err(RecordError::from(SafetensorsError::DuplicateName { id }).into())
        }
        None => Ok(outputs),
    }
}
