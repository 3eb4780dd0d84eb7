//! The tensors of a file as it stores them, whether they are entries or states here.

use std::collections::HashMap;

use quant::{ParamId, RecordError};

use super::small_float;
use crate::entry::Stored;
use crate::method::Refusal;
use crate::safetensors::{Dtype, describe, foreign};
use crate::source::Source;

/// A tensor of the file, without its values.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub(super) id: ParamId,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: u64,
    place: Place,
}

/// Where a component is in the checkpoint that is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    Entry(usize),
    State(usize),
}

impl Component {
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The extents, if there are as many.
    pub(super) fn extents<const N: usize>(&self) -> Result<[usize; N], Refusal> {
        self.shape.as_slice().try_into().map_err(|_| self.misfit())
    }

    /// Fails unless a condition on type and shape holds.
    pub(super) fn check(&self, fits: bool) -> Result<(), Refusal> {
        if fits { Ok(()) } else { Err(self.misfit()) }
    }

    /// The refusal of a tensor whose type or shape does not fit.
    pub(super) fn misfit(&self) -> Refusal {
        Refusal::Layout { component: self.id.clone(), found: describe(self.dtype, &self.shape) }
    }

    /// Whether its elements are words of packed codes.
    pub(super) fn is_words(&self) -> bool {
        matches!(self.dtype, Dtype::I32 | Dtype::U32)
    }

    /// Whether its elements are floats of 16 or 32 bits.
    pub(super) fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }

    /// Whether its elements are floats of 8 bits with a sign.
    pub(super) fn is_float8(&self) -> bool {
        small_float::table(self.dtype).is_some()
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        // Checked when the file was opened.
        self.shape.iter().product()
    }

    fn is_integer(&self) -> bool {
        use Dtype::{I8, I16, I32, U8, U16, U32};
        matches!(self.dtype, I8 | U8 | I16 | U16 | I32 | U32)
    }

    /// Whether it could be the codes of a quantized tensor.
    pub(super) fn may_be_codes(&self) -> bool {
        self.is_float8()
            || self.is_integer()
            || matches!(self.dtype, Dtype::F4 | Dtype::F6_E2M3 | Dtype::F6_E3M2)
    }
}

/// The tensors of a file, by name.
pub(super) struct Components {
    all: Vec<Component>,
    by_name: HashMap<ParamId, usize>,
}

impl Components {
    /// Tensors that are quantized by this crate, and states of modules, are left out.
    pub(super) fn of(source: &dyn Source) -> Self {
        let mut all = Vec::new();
        for (index, entry) in source.entries().iter().enumerate() {
            if let Some(dtype) = dtype(entry.stored) {
                let (id, shape, bytes) = (entry.id.clone(), entry.shape.clone(), entry.bytes);
                all.push(Component { id, dtype, shape, bytes, place: Place::Entry(index) });
            }
        }
        for (index, state) in source.state_entries().into_iter().enumerate() {
            if let Some((dtype, shape)) = foreign(&state.kind, state.bytes) {
                let (id, bytes) = (state.id, state.bytes);
                all.push(Component { id, dtype, shape, bytes, place: Place::State(index) });
            }
        }
        let by_name = all.iter().enumerate().map(|(index, it)| (it.id.clone(), index)).collect();
        Self { all, by_name }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Component> {
        self.by_name.get(name).map(|&index| &self.all[index])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Component> {
        self.all.iter()
    }
}

/// The type of a float tensor in the file.
fn dtype(stored: Stored) -> Option<Dtype> {
    match stored {
        Stored::F32 => Some(Dtype::F32),
        Stored::F16 => Some(Dtype::F16),
        Stored::Bf16 => Some(Dtype::BF16),
        _ => None,
    }
}

/// Reads the elements of components.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a dyn Source);

impl Reader<'_> {
    /// The bytes of a tensor that is not float.
    pub(super) fn bytes(self, component: &Component) -> Result<Vec<u8>, RecordError> {
        match component.place {
            Place::State(index) => Ok(self.0.state(index)?.data),
            Place::Entry(_) => unreachable!("layouts check types"),
        }
    }

    /// The words of a tensor of type I32 or U32.
    pub(super) fn words(self, component: &Component) -> Result<Vec<u32>, RecordError> {
        let bytes = self.bytes(component)?;
        Ok(bytes
            .chunks_exact(4)
            .map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]))
            .collect())
    }

    /// The elements of a tensor of floats of any width, powers of two (U8 as well) included.
    pub(super) fn floats(self, component: &Component) -> Result<Vec<f32>, RecordError> {
        match component.place {
            Place::Entry(index) => Ok(self.0.read(index)?.into_values()),
            Place::State(_) => {
                let table = small_float::table(component.dtype).unwrap_or_else(small_float::powers);
                let bytes = self.bytes(component)?;
                Ok(bytes.into_iter().map(|byte| table[usize::from(byte)]).collect())
            }
        }
    }
}
