//! What each tensor of a checkpoint becomes in a model directory.

use std::collections::HashSet;

use quant::__private::Payload;
use quant::{QuantizationScheme, RecordError, Tensor};

use super::compressed::{Compressed, Inputs, Slot};
use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, Stored};
use crate::equal::equal_tensors;
use crate::error::CheckpointError;
use crate::folder_error::FolderError;
use crate::memory;
use crate::options::Options;
use crate::safetensors::{Dtype, METADATA, SafetensorsError, foreign};

/// How a tensor is written.
pub(super) enum Form {
    /// With the bytes of its file.
    AsStored,
    /// In single precision.
    Floats,
    /// Not at all: the output layer, which is tied to the embeddings at this position.
    Tied(usize),
    Compressed(Compressed),
}

impl Form {
    /// The number of elements at multiples of which a tensor can be divided.
    pub(super) fn grain(&self) -> usize {
        match self {
            Self::Compressed(form) => form.grain(),
            Self::AsStored | Self::Floats | Self::Tied(_) => 1,
        }
    }

    /// The memory for a tensor that takes `len` bytes.
    pub(super) fn needs(&self, from: &Entry, len: u64) -> u64 {
        match self {
            // Besides what is read and written: the tensor in memory, and its codes one to the byte.
            Self::Compressed(_) => memory::of_result(from, len)
                .saturating_add(len)
                .saturating_add(2 * from.element_count() as u64),
            Self::AsStored => memory::of_copy(from).saturating_add(from.bytes),
            Self::Floats => memory::of_result(from, len),
            Self::Tied(_) => 0,
        }
    }

    /// The bytes of the tensors that a part of an entry becomes; the first one has those that are not
    /// divided, too.
    pub(super) fn bytes(&self, part: &Tensor, is_first: bool) -> Vec<Vec<u8>> {
        match self {
            Self::Compressed(form) => {
                let codes = part.quantized().expect("a tensor with a scheme is quantized");
                form.bytes(codes, is_first)
            }
            Self::AsStored => vec![stored_bytes(part)],
            Self::Tied(_) => Vec::new(),
            Self::Floats => {
                vec![part.values().iter().flat_map(|value| value.to_le_bytes()).collect()]
            }
        }
    }
}

/// The elements of a float tensor in its own type.
fn stored_bytes(tensor: &Tensor) -> Vec<u8> {
    let [values, ..] = Payload::of(tensor.into());
    values.to_bytes()
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

/// The name of the weights of the output layer of language models.
const OUTPUT: &str = "lm_head.weight";

/// Leaves out the weights of an output layer that the configuration ties to the embeddings, if they are
/// those of another tensor, bit for bit. Engines find them there.
pub(super) fn leave_out_tied(
    forms: &mut [Form],
    from: &Checkpoint,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let Some(output) = from.position(OUTPUT) else { return Ok(()) };
    let equal = equal_tensors(from, options)?.into_iter().find_map(|(a, b)| match output {
        _ if a == output => Some(b),
        _ if b == output => Some(a),
        _ => None,
    });
    if let Some(equal) = equal
        && matches!((&forms[output], &forms[equal]), (Form::AsStored, Form::AsStored))
    {
        forms[output] = Form::Tied(equal);
    }
    Ok(())
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
            (Form::Tied(_), _) => Vec::new(),
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
    let mut names = HashSet::from([METADATA]);
    match outputs.iter().flatten().find(|(name, ..)| !names.insert(name)) {
        Some((name, ..)) => {
            let id = name.as_str().into();
            let error = match name.as_str() {
                METADATA => SafetensorsError::ReservedName { id },
                _ => SafetensorsError::DuplicateName { id },
            };
            Err(RecordError::from(error).into())
        }
        None => Ok(outputs),
    }
}
