//! Outputs in their order to the shards that they belong to.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use quant::quantize::PlannedParam;

use super::compressed::Slot;
use super::journal::{Finished, Journal, in_file};
use super::shards::Shards;
use super::writer::ShardWriter;
use crate::error::CheckpointError;
use crate::piece::Piece;
use crate::safetensors::stored_metadata;

/// Writes outputs in their order to their shards.
pub(super) struct Sequence<'a> {
    directory: &'a Path,
    shards: &'a Shards,
    outputs: &'a [Vec<Slot>],
    journal: Journal,
    metadata: BTreeMap<String, String>,
    current: Option<Shard>,
    finished: Vec<Finished>,
}

/// A shard that is being written.
struct Shard {
    writer: ShardWriter,
    /// The number of tensors that are complete.
    slots: usize,
    params: Vec<PlannedParam>,
}

impl<'a> Sequence<'a> {
    pub(super) fn new(
        directory: &'a Path,
        shards: &'a Shards,
        outputs: &'a [Vec<Slot>],
        metadata: &BTreeMap<String, String>,
        journal: Journal,
    ) -> Self {
        let mut metadata = stored_metadata(metadata);
        // transformers refuses files without it.
        metadata.entry("format".into()).or_insert_with(|| "pt".into());
        let (current, finished) = (None, Vec::new());
        Self { directory, shards, outputs, journal, metadata, current, finished }
    }

    /// Writes what follows in each tensor of the output that a piece belongs to; `planned` is its line
    /// of the plan, at its end.
    pub(super) fn put(
        &mut self,
        piece: &Piece,
        tensors: &[Vec<u8>],
        planned: Option<PlannedParam>,
    ) -> Result<(), CheckpointError> {
        let output = piece.item;
        let (name, run) = &self.shards.0[self.shards.of(output)];
        let path = self.directory.join(name);
        let shard = match &mut self.current {
            Some(shard) => shard,
            empty => {
                let slots: Vec<Slot> =
                    self.outputs[run.clone()].iter().flatten().cloned().collect();
                let writer = ShardWriter::create(&path, &slots, &self.metadata)?;
                empty.insert(Shard { writer, slots: 0, params: Vec::new() })
            }
        };
        for (slot, bytes) in (shard.slots..).zip(tensors) {
            shard.writer.append(slot, bytes).map_err(|error| in_file(&path, error))?;
        }
        if !piece.is_last {
            return Ok(());
        }
        shard.slots += tensors.len();
        shard.params.extend(planned);
        if output + 1 == run.end
            && let Some(Shard { writer, params, .. }) = self.current.take()
        {
            let (len, crc) = writer.finish().map_err(|error| in_file(&path, error))?;
            let finished = Finished { shard: name.clone(), len, crc, params };
            self.journal.add(&finished)?;
            self.finished.push(finished);
        }
        Ok(())
    }

    /// The plan of all tensors, in their order.
    pub(super) fn finish(
        self,
        mut before: HashMap<String, Finished>,
    ) -> (Journal, Vec<PlannedParam>) {
        before.extend(self.finished.into_iter().map(|shard| (shard.shard.clone(), shard)));
        let shards = self.shards.0.iter().filter_map(|(name, _)| before.remove(name));
        let params = shards.flat_map(|shard| shard.params).collect();
        (self.journal, params)
    }
}
