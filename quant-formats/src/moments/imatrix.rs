//! Importance matrices of llama.cpp.
//!
//! ```text
//! blk.0.attn_q.weight.in_sum2  F32  [matrices, n]   Σ x_i² of the inputs of a weight
//! blk.0.attn_q.weight.counts   F32  [matrices, 1]   the number of inputs
//! ```
//!
//! A weight of experts has a matrix for each. There is no rule for one diagonal for each expert, so
//! these are not used.

use std::collections::BTreeMap;

use quant::ParamId;
use quant::RecordError;
use quant::moments::{LayerMoments, MomentsError};

use super::error::MomentsFileError;
use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, Stored};

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// Where the sums of a weight are, and the number of rows, by position in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Diagonal {
    pub(super) columns: usize,
    sums: usize,
    counts: usize,
}

/// An importance matrix.
#[derive(Default)]
pub(super) struct Imatrix {
    pub(super) weights: BTreeMap<ParamId, Diagonal>,
    /// The weights of experts.
    pub(super) experts: Vec<ParamId>,
}

/// The importance matrix in a file; `None` if there is none.
pub(super) fn find(file: &Checkpoint) -> Result<Option<Imatrix>, MomentsFileError> {
    let entries = file.entries();
    let mut found = Imatrix::default();
    for (sums, entry) in entries.iter().enumerate() {
        let name = entry.id.as_str();
        if let Some(weight) = name.strip_suffix(COUNTS) {
            position(file, weight, SUMS)?;
        }
        let Some(weight) = name.strip_suffix(SUMS) else { continue };
        let counts = position(file, weight, COUNTS)?;
        let layout = |found: &Entry| MomentsFileError::Layout {
            id: weight.into(),
            found: format!("{} {:?}", found.stored, found.shape),
        };
        let (matrices, columns) = match *entry.shape {
            [columns] => (1, columns),
            [matrices, columns] => (matrices, columns),
            _ => return Err(layout(entry)),
        };
        if entry.stored != Stored::F32 {
            return Err(layout(entry));
        }
        if entries[counts].stored != Stored::F32 || entries[counts].element_count() != matrices {
            return Err(layout(&entries[counts]));
        }
        if matrices == 1 {
            found.weights.insert(weight.into(), Diagonal { columns, sums, counts });
        } else {
            found.experts.push(weight.into());
        }
    }
    let is_empty = found.weights.is_empty() && found.experts.is_empty();
    Ok((!is_empty).then_some(found))
}

fn position(file: &Checkpoint, weight: &str, suffix: &str) -> Result<usize, MomentsFileError> {
    let tensor = format!("{weight}{suffix}");
    let missing = |tensor| MomentsFileError::MissingTensor { id: weight.into(), tensor };
    file.position(&tensor).ok_or_else(|| missing(tensor))
}

impl Diagonal {
    /// The moments, or why the sums are not those of moments.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(
        &self,
        file: &Checkpoint,
    ) -> Result<Result<LayerMoments, MomentsError>, RecordError> {
        let sums = file.read(self.sums)?;
        let squares = sums.values().iter().map(|&sum| f64::from(sum)).collect();
        let counts = file.read(self.counts)?;
        let count = counts.values().first().copied().unwrap_or(0.0);
        if !(count.is_finite() && count >= 0.0) {
            return Ok(Err(MomentsError::NonFinite { value: count.into() }));
        }
        Ok(LayerMoments::from_diagonal(squares, count as u64))
    }
}
