//! Codes split so that a few products of bytes can be summed in i16 (AVX2).
//!
//! `vpmaddubsw` multiplies unsigned activations `0 ..= 255` with signed codes and adds pairs in i16.
//! With both at full range that saturates. But codes are known when they are packed, and those of
//! real weights are rarely large together: of each group of codes that are summed in i16, so much
//! is kept that the positive ones sum to at most [`LIMIT`] and the negative ones to at least
//! `-LIMIT`; the remainders go to a list and are multiplied apart, in i32. The sum of both is exact
//! for any activations. (FBGEMM calls this an outlier matrix.)

use super::dispatch::Arithmetic;
use alloc::vec::Vec;

/// `128 · 255 = 32640` fits i16, `129 · 255` does not.
const LIMIT: i32 = 128;

/// What is left of a code after its kept part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outlier {
    pub(super) k: u32,
    pub(super) rest: i32,
}

/// Remainders of all columns, in the order of columns and then of K.
#[derive(Clone, Debug, Default)]
pub(super) struct Outliers {
    list: Vec<Outlier>,
    /// Where the list of each column ends.
    ends: Vec<u32>,
}

impl Outliers {
    pub(super) const fn none() -> Self {
        Self { list: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.list.len() * size_of::<Outlier>() + self.ends.len() * 4
    }

    /// The remainders of a column.
    pub(super) fn of(&self, column: usize) -> &[Outlier] {
        let end = |i: usize| self.ends.get(i).map_or(self.list.len(), |end| *end as usize);
        let start = if column == 0 { 0 } else { end(column - 1) };
        &self.list[start..end(column)]
    }

    /// The remainders of a column from `k` on, before `end`; both at the border of a group.
    pub(super) fn within(&self, column: usize, k: usize, end: usize) -> &[Outlier] {
        let all = self.of(column);
        let start = all.partition_point(|outlier| (outlier.k as usize) < k);
        let end = all.partition_point(|outlier| (outlier.k as usize) < end);
        &all[start..end]
    }

    /// Splits the codes of the next column; `row` keeps what can be summed in i16.
    pub(super) fn split_off(
        &mut self,
        column: usize,
        row: &mut [i8],
        segment: usize,
        group: usize,
    ) {
        debug_assert_eq!(column, self.ends.len());
        for (s, codes) in row.chunks_mut(segment).enumerate() {
            for (g, codes) in codes.chunks_mut(group).enumerate() {
                let start = s * segment + g * group;
                split(codes, |i, rest| self.list.push(Outlier { k: (start + i) as u32, rest }));
            }
        }
        self.ends.push(self.list.len() as u32);
    }
}

/// Reduces the largest codes of a sign first: fewest remainders.
fn split(codes: &mut [i8], mut rest: impl FnMut(usize, i32)) {
    for sign in [1, -1] {
        let part = |code: &i8| (i32::from(*code) * sign).max(0);
        let mut excess = codes.iter().map(part).sum::<i32>() - LIMIT;
        while excess > 0 {
            let Some(at) = (0..codes.len()).max_by_key(|i| part(&codes[*i])) else { return };
            let cut = excess.min(part(&codes[at]));
            codes[at] = (i32::from(codes[at]) - sign * cut) as i8;
            rest(at, sign * cut);
            excess -= cut;
        }
    }
}

/// Which arithmetic suits these codes.
pub(super) fn arithmetic(_codes: &[i8], _k: usize, _segment: usize) -> Arithmetic {
    Arithmetic::Wide
}
