//! Tensors of a checkpoint that are equal to earlier ones: type, shape and every bit.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::mem;

use quant::__private::Payload;
use quant::Tensor;

use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::CheckpointError;
use crate::options::Options;

/// Smaller tensors take about as many bytes as another name for them.
const LEAST_BYTES: u64 = 4096;

/// So many elements are read at once.
const CHUNK: usize = 1 << 18;

/// So many elements at the start and in the middle tell most tensors apart.
const SAMPLE: usize = 64;

/// Each tensor that is equal to an earlier one, and that one, by their positions.
///
/// Of tensors with one type and shape, a sample is read; where samples are equal, all is read for a hash;
/// where hashes are equal, bits are compared.
pub(crate) fn equal_tensors(
    from: &Checkpoint,
    options: Options<'_>,
) -> Result<Vec<(usize, usize)>, CheckpointError> {
    let mut equal = Vec::new();
    let mut alike: HashMap<_, Vec<usize>> = HashMap::new();
    for (index, entry) in from.entries().iter().enumerate() {
        if let Some(of) = from.alias_of(index) {
            equal.push((index, of));
        } else if entry.bytes >= LEAST_BYTES && from.grain(index) == Some(1) {
            let key = (mem::discriminant(&entry.stored), &*entry.shape);
            alike.entry(key).or_default().push(index);
        }
    }
    for group in alike.into_values() {
        for group in divided(group, |index| sample(from, index))? {
            let hash = |index: usize| {
                options.check()?;
                hash_of(from, index)
            };
            for group in divided(group, hash)? {
                find(from, &group, &mut equal, options)?;
            }
        }
    }
    // Of a tensor that is another name of an equal one, the first.
    let first: HashMap<usize, usize> = equal.iter().copied().collect();
    for (_, of) in &mut equal {
        *of = first.get(of).copied().unwrap_or(*of);
    }
    equal.sort_unstable();
    Ok(equal)
}

/// Divides tensors by a key into groups of two and more.
fn divided(
    group: Vec<usize>,
    key: impl Fn(usize) -> Result<u64, CheckpointError>,
) -> Result<Vec<Vec<usize>>, CheckpointError> {
    let mut groups: HashMap<u64, Vec<usize>> = HashMap::new();
    if group.len() > 1 {
        for index in group {
            groups.entry(key(index)?).or_default().push(index);
        }
    }
    Ok(groups.into_values().filter(|group| group.len() > 1).collect())
}

/// Compares tensors whose hashes are equal with the first one.
fn find(
    from: &Checkpoint,
    group: &[usize],
    equal: &mut Vec<(usize, usize)>,
    options: Options<'_>,
) -> Result<(), CheckpointError> {
    let Some((&first, others)) = group.split_first() else { return Ok(()) };
    for &other in others {
        options.check()?;
        let mut is_equal = true;
        for range in chunks(&from.entries()[first]) {
            let [a, b] = [first, other].map(|index| from.read_part(index, range.clone(), vec![]));
            is_equal = is_equal && bytes(&a?) == bytes(&b?);
        }
        if is_equal {
            equal.push((other, first));
        }
    }
    Ok(())
}

fn sample(from: &Checkpoint, index: usize) -> Result<u64, CheckpointError> {
    let count = from.entries()[index].element_count();
    let mut hasher = DefaultHasher::new();
    for start in [0, count / 2] {
        let part = from.read_part(index, start..count.min(start + SAMPLE), Vec::new())?;
        bytes(&part).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn hash_of(from: &Checkpoint, index: usize) -> Result<u64, CheckpointError> {
    let mut hasher = DefaultHasher::new();
    for range in chunks(&from.entries()[index]) {
        bytes(&from.read_part(index, range, Vec::new())?).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Ranges of elements, in order.
fn chunks(entry: &Entry) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = entry.element_count();
    (0..count).step_by(CHUNK).map(move |start| start..count.min(start + CHUNK))
}

/// The elements as a file has them.
fn bytes(part: &Tensor) -> Vec<u8> {
    let [values, ..] = Payload::of(part.into());
    values.to_bytes()
}
