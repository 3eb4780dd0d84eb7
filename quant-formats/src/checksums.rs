//! Checksums of sections that are read part by part, by several threads.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;

/// What a section belongs to, by its position.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Of {
    /// A tensor, and the offset of the section.
    Tensor(usize, u64),
    State(usize),
}

/// The parts that have been read of each section that has not been read to its end.
#[derive(Default)]
pub(crate) struct Checksums(Mutex<HashMap<Of, Parts>>);

/// The end of each part, and its checksum, by its start.
type Parts = BTreeMap<u64, (u64, u32)>;

impl Checksums {
    /// Adds the checksum of these bytes of a section. Returns that of all its `len` bytes once they
    /// have been read, in any order.
    pub(crate) fn add(&self, of: Of, bytes: Range<u64>, crc: u32, len: u64) -> Option<u32> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = all.entry(of).or_default();
        parts.insert(bytes.start, (bytes.end, crc));
        let whole = whole(parts, len)?;
        all.remove(&of);
        Some(whole)
    }
}

/// The checksum of parts that follow each other up to the end. Others, which an unfinished job may
/// have left, are passed over.
fn whole(parts: &Parts, len: u64) -> Option<u32> {
    let (mut at, mut whole) = (0, Hasher::new());
    while at < len {
        let &(end, crc) = parts.get(&at)?;
        whole.combine(&Hasher::new_with_initial_len(crc, end - at));
        at = end;
    }
    Some(whole.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_any_order_have_the_checksum_of_all() {
        let bytes: Vec<u8> = (0..200).collect();
        let checksums = Checksums::default();
        let add = |of: Of, range: Range<usize>| {
            let crc = crc32fast::hash(&bytes[range.clone()]);
            checksums.add(of, range.start as u64..range.end as u64, crc, 200)
        };
        assert_eq!(add(Of::Tensor(0, 64), 150..200), None);
        // A part of a job that did not go on.
        assert_eq!(add(Of::Tensor(0, 64), 60..90), None);
        assert_eq!(add(Of::Tensor(0, 64), 0..50), None);
        assert_eq!(add(Of::State(0), 50..150), None);
        assert_eq!(add(Of::Tensor(0, 64), 50..150), Some(crc32fast::hash(&bytes)));
        assert!(add(Of::Tensor(0, 64), 0..50).is_none(), "the section is read again");
    }
}
