//! Which file of a model directory has which tensor.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::compressed::Slot;
use crate::pipeline::runs;
use crate::safetensors::Dtype;

/// The greatest size of a shard unless another one is asked for; that of transformers.
pub(super) const DEFAULT_MAX_BYTES: u64 = 5_000_000_000;

/// Runs of outputs, each with the name of its file.
pub(super) struct Shards(pub(super) Vec<(String, Range<usize>)>);

impl Shards {
    /// Divides outputs of these sizes into files of at most `max` bytes of tensors; an output that
    /// is larger has a file of its own.
    pub(super) fn divide(sizes: &[u64], max: u64) -> Self {
        let runs = runs(sizes, max);
        let count = runs.len();
        let name = |position: usize| match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", position + 1),
        };
        Self(runs.into_iter().enumerate().map(|(position, run)| (name(position), run)).collect())
    }

    /// The shard of an output.
    pub(super) fn of(&self, output: usize) -> usize {
        self.0.partition_point(|(_, run)| run.end <= output)
    }

    /// The JSON of the index; `None` for one file, which needs none.
    pub(super) fn index(&self, outputs: &[Vec<Slot>]) -> Option<String> {
        #[derive(Serialize)]
        struct Index<'a> {
            metadata: Metadata,
            weight_map: BTreeMap<&'a str, &'a str>,
        }
        #[derive(Serialize)]
        struct Metadata {
            total_size: u64,
        }
        if self.0.len() == 1 {
            return None;
        }
        let mut weight_map = BTreeMap::new();
        for (name, run) in &self.0 {
            for (tensor, ..) in outputs[run.clone()].iter().flatten() {
                weight_map.insert(tensor.as_str(), name.as_str());
            }
        }
        let total_size = outputs.iter().map(|slots| size(slots)).sum();
        let index = Index { metadata: Metadata { total_size }, weight_map };
        Some(serde_json::to_string_pretty(&index).expect("strings are JSON") + "\n")
    }
}

/// The bytes of the tensors of an output.
pub(super) fn size(slots: &[Slot]) -> u64 {
    // Each tensor is made from one of a file, whose size has been checked.
    let size =
        |(_, dtype, shape): &(String, Dtype, Vec<usize>)| dtype.byte_count(shape).unwrap_or(0);
    slots.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_as_full_as_their_limit_allows() {
        let shards = Shards::divide(&[4, 4, 4, 20, 1, 1], 10);
        let runs: Vec<_> = shards.0.iter().map(|(_, run)| run.clone()).collect();
        assert_eq!(runs, [0..2, 2..3, 3..4, 4..6]);
        assert_eq!(shards.0[3].0, "model-00004-of-00004.safetensors");
        assert_eq!((0..6).map(|output| shards.of(output)).collect::<Vec<_>>(), [0, 0, 1, 2, 3, 3]);
        assert_eq!(Shards::divide(&[4, 4], 10).0, [("model.safetensors".to_owned(), 0..2)]);
        assert_eq!(Shards::divide(&[], 10).0.len(), 1);
    }
}
