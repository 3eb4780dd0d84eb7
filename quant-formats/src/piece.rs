//! Tensors and states in pieces.

use std::ops::Range;

use quant::ParamId;

use crate::entry::{Entry, StateEntry};

/// A tensor or state that passes through memory.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: ParamId,
    /// The number of elements, or of the bytes of a state.
    pub(crate) len: usize,
    /// The number of elements at multiples of which a piece starts; `None` if there is only one.
    pub(crate) grain: Option<usize>,
    /// The memory for all of it.
    pub(crate) needs: u64,
    /// The memory for what each piece of it needs besides, such as second moments.
    pub(crate) beside: u64,
    /// Whether progress is reported, for which a state does not count.
    pub(crate) is_tensor: bool,
}

impl Item {
    pub(crate) fn tensor(entry: &Entry, grain: Option<usize>, needs: u64) -> Self {
        let (id, len) = (entry.id.clone(), entry.element_count());
        Self { id, len, grain, needs, beside: 0, is_tensor: true }
    }

    /// Each piece needs this memory besides.
    pub(crate) fn beside(self, bytes: u64) -> Self {
        Self { beside: bytes, ..self }
    }

    /// A state that is copied.
    pub(crate) fn state(state: &StateEntry, grain: Option<usize>) -> Self {
        let StateEntry { id, bytes, .. } = state;
        // A state that is longer than an address space cannot be read, which is an error then.
        let len = usize::try_from(*bytes).unwrap_or(usize::MAX);
        Self { id: id.clone(), len, grain, needs: 2 * bytes, beside: 0, is_tensor: false }
    }

    /// The memory for a piece of so many elements.
    pub(crate) fn needs_of(&self, len: usize) -> u64 {
        let needs = u128::from(self.needs) * len as u128;
        (needs.div_ceil(self.len.max(1) as u128) as u64).saturating_add(self.beside)
    }

    /// The memory for the smallest piece.
    pub(crate) fn least(&self) -> u64 {
        self.needs_of(self.grain.map_or(self.len, |grain| grain.min(self.len)))
    }

    /// The number of elements of a piece that takes about `most` bytes, if it can be as small.
    fn piece_len(&self, most: u64) -> usize {
        let most = most.saturating_sub(self.beside);
        let Some(grain) = self.grain.filter(|_| self.needs > most) else { return self.len };
        let len = u128::from(most) * self.len as u128 / u128::from(self.needs);
        (len as usize / grain).max(1) * grain
    }
}

/// A part of a tensor or state, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The position of the tensor or state among those that pass.
    pub(crate) item: usize,
    /// The elements.
    pub(crate) range: Range<usize>,
    pub(crate) is_last: bool,
}

impl Piece {
    pub(crate) fn is_first(&self) -> bool {
        self.range.start == 0
    }

    /// The same piece of another item.
    pub(crate) fn of(&self, item: usize) -> Self {
        Self { item, range: self.range.clone(), is_last: self.is_last }
    }
}

/// The sum of what is known about the pieces of each tensor, which come in order.
pub(crate) struct Sum<T>(Option<T>);

impl<T> Default for Sum<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Sum<T> {
    /// Adds what is known of the next piece; returns the sum after the last one of a tensor.
    pub(crate) fn add(&mut self, piece: &Piece, one: T, and: impl Fn(T, T) -> T) -> Option<T> {
        let sum = match self.0.take().filter(|_| !piece.is_first()) {
            Some(sum) => and(sum, one),
            None => one,
        };
        if piece.is_last {
            return Some(sum);
        }
        self.0 = Some(sum);
        None
    }
}

/// Divides what takes more than `most` bytes, where that is possible. What needs other data for each piece
/// is divided where it takes more than `share`.
pub(crate) fn divide(items: &[Item], most: u64, share: u64) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(items.len());
    for (item, this) in items.iter().enumerate() {
        let len = this.piece_len(if this.beside > 0 { share } else { most });
        let mut start = 0usize;
        loop {
            let end = this.len.min(start.saturating_add(len));
            let is_last = end == this.len;
            pieces.push(Piece { item, range: start..end, is_last });
            if is_last {
                break;
            }
            start = end;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(len: usize, grain: Option<usize>, needs: u64) -> Item {
        Item { id: "w".into(), len, grain, needs, beside: 0, is_tensor: true }
    }

    #[test]
    fn pieces_start_at_multiples_of_the_grain_and_are_all_of_the_tensor() {
        for (most, expected) in [
            (100, &[0, 10][..]),
            (99, &[0, 9, 10]),
            (60, &[0, 6, 10]),
            (45, &[0, 3, 6, 9, 10]),
            (1, &[0, 3, 6, 9, 10]),
        ] {
            let pieces = divide(&[item(10, Some(3), 100)], most, 1000);
            let ranges: Vec<_> = pieces.iter().map(|piece| piece.range.clone()).collect();
            let expected: Vec<_> = expected.windows(2).map(|ends| ends[0]..ends[1]).collect();
            assert_eq!(ranges, expected, "{most}");
            assert_eq!(pieces.iter().filter(|piece| piece.is_last).count(), 1);
        }
        assert_eq!(divide(&[item(10, None, 100), item(0, Some(1), 0)], 1, 1).len(), 2);
    }

    #[test]
    fn pieces_that_need_other_data_are_as_large_as_the_memory_allows() {
        let item = item(10, Some(1), 100).beside(50);
        assert_eq!((item.needs_of(10), item.least()), (150, 60));
        for (share, expected) in [(150, 1), (149, 2), (100, 2), (70, 5), (1, 10)] {
            assert_eq!(divide(std::slice::from_ref(&item), 1, share).len(), expected, "{share}");
        }
    }
}
