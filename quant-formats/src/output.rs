//! Writing what a job makes of each tensor of a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use quant::Tensor;
use quant::record::{LaterState, Manifest, RecordEntry};

use crate::checkpoint::Checkpoint;
use crate::create::create;
use crate::entry::Entry;
use crate::error::CheckpointError;
use crate::ggml::{GgufType, kind_of_tensor};
use crate::options::Options;
use crate::pipeline::{self, needed};

/// What a tensor becomes.
pub(crate) enum Target {
    Tensor(RecordEntry),
    Blocks(LaterState),
}

impl Target {
    /// A tensor in blocks of this type.
    pub(crate) fn blocks(entry: &Entry, ty: GgufType) -> Self {
        let kind = kind_of_tensor(ty, &entry.shape);
        // The caller has compared type and shape.
        let len = ty.byte_count(&entry.shape).unwrap_or(u64::MAX);
        Self::Blocks(LaterState { id: entry.id.clone(), kind, len })
    }

    pub(crate) fn byte_count(&self) -> u64 {
        match self {
            Self::Tensor(entry) => entry.byte_count(),
            Self::Blocks(state) => state.len,
        }
    }
}

/// What a checkpoint becomes.
pub(crate) struct Output {
    targets: Vec<Target>,
    metadata: BTreeMap<String, String>,
}

impl Output {
    /// The tensors of a checkpoint become `targets`; its metadata is copied.
    pub(crate) fn of(from: &Checkpoint, targets: Vec<Target>) -> Self {
        Self { targets, metadata: from.metadata().clone() }
    }

    /// Gives a key of the metadata another value, if it has one.
    pub(crate) fn update(mut self, key: &str, value: impl ToString) -> Self {
        if let Some(old) = self.metadata.get_mut(key) {
            *old = value.to_string();
        }
        self
    }
}

/// What is written of a tensor: what its [`Target`] declares.
pub(crate) enum Made {
    Tensor(Tensor),
    Blocks(Vec<u8>),
}

/// Writes what `each` makes of the tensor at each position, and passes `done` the rest of its result.
///
/// Tensors come before those in blocks, because a record has its states last. The other states are
/// copied.
pub(crate) fn write<R: Send>(
    from: &Checkpoint,
    output: Output,
    to: &Path,
    options: Options<'_>,
    each: impl Fn(usize) -> Result<(R, Made), CheckpointError> + Sync,
    mut done: impl FnMut(R),
) -> Result<(), CheckpointError> {
    let Output { targets, metadata } = output;
    let held = from.state_entries().iter().map(|state| state.bytes).sum();
    let is_tensor = |&index: &usize| matches!(targets[index], Target::Tensor(_));
    let (mut order, blocks): (Vec<usize>, Vec<usize>) = (0..targets.len()).partition(is_tensor);
    order.extend(blocks);
    let entries: Vec<&Entry> = order.iter().map(|&index| &from.entries()[index]).collect();
    let sizes = order.iter().map(|&index| targets[index].byte_count());
    let needs: Vec<u64> = entries.iter().zip(sizes).map(|(from, len)| needed(from, len)).collect();
    pipeline::check(&entries, &needs, held, options)?;

    let (mut tensors, mut later) = (Vec::new(), Vec::new());
    for target in targets {
        match target {
            Target::Tensor(entry) => tensors.push(entry),
            Target::Blocks(state) => later.push(state),
        }
    }
    let manifest = Manifest::new(tensors)
        .with_metadata(metadata)
        .with_states(from.states()?)
        .with_later_states(later)
        .with_max_shard_size(options.max_shard_size);
    let mut writer = create(to, manifest)?;
    let each = |position: usize| each(order[position]);
    pipeline::run(&entries, &needs, held, options, each, |position, (result, made)| {
        done(result);
        let id = entries[position].id.as_str();
        match made {
            Made::Tensor(tensor) => writer.write(id, &tensor)?,
            Made::Blocks(bytes) => writer.write_state(id, &bytes)?,
        }
        Ok(())
    })?;
    Ok(writer.finish()?)
}
