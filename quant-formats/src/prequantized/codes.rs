//! Integer codes with scales and zero points, whatever they were packed as.

use std::ops::Range;

use quant::QuantizationScheme;
use quant::scheme::{Granularity, packing};
use quant::tensor::{QuantizedTensor, TensorError};

/// Code `index` of a stream of words with codes of `bits` bits, low bits first; a code may lie in
/// two words. `word` returns a word by its position.
pub(super) fn dense(word: impl Fn(usize) -> u32, bits: usize, index: usize) -> u8 {
    let at = index * bits;
    let (position, shift) = (at / 32, at % 32);
    let mut code = word(position) >> shift;
    if shift + bits > 32 {
        code |= word(position + 1) << (32 - shift);
    }
    (code & ((1 << bits) - 1)) as u8
}

/// The words that a dense stream of `codes` codes takes; `None` if that cannot be counted.
pub(super) fn dense_words(codes: usize, bits: usize) -> Option<usize> {
    Some(codes.checked_mul(bits)?.div_ceil(32))
}

/// The group of each column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Columns {
    /// Groups of this many columns; the last may be shorter.
    Runs(usize),
    /// The group of each column, in any order.
    Indexed(Vec<u32>),
}

impl Columns {
    /// The groups of `g_idx`, all of which are below `groups`; as runs, if it says no more.
    pub(super) fn indexed(
        index: Vec<u32>,
        groups: usize,
        run: Option<usize>,
    ) -> Result<Self, usize> {
        if let Some(column) = index.iter().position(|&group| group as usize >= groups) {
            return Err(column);
        }
        let is_run = |len: usize| index.iter().enumerate().all(|(i, &it)| i / len == it as usize);
        match run {
            Some(len) if is_run(len) => Ok(Self::Runs(len)),
            _ => Ok(Self::Indexed(index)),
        }
    }
}

/// A matrix of codes. Its values are `(code - zero point) · scale`, in this order; with a scale of
/// half precision the product is exact.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Codes {
    /// The length of a row.
    pub(super) columns: usize,
    /// Two's complement, row by row.
    pub(super) codes: Vec<i8>,
    /// Groups in a row.
    pub(super) groups: usize,
    pub(super) group_of: Columns,
    /// For each row, one for each group.
    pub(super) scales: Vec<f32>,
    /// As `scales`; empty if all are 0. Those of 8-bit codes may be one above the greatest code.
    pub(super) zero_points: Vec<i16>,
    /// As `scales`, in place of zero points: what the least code stands for.
    pub(super) minimums: Option<Vec<f32>>,
}

impl Codes {
    /// The values, row by row.
    pub(super) fn values(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.codes.len());
        if self.columns == 0 || self.groups == 0 {
            return values;
        }
        for (row, codes) in self.codes.chunks(self.columns).enumerate() {
            let groups = row * self.groups..(row + 1) * self.groups;
            match &self.group_of {
                Columns::Runs(len) => {
                    for (group, codes) in groups.zip(codes.chunks(*len)) {
                        values.extend(codes.iter().map(|&code| self.value(code, group)));
                    }
                }
                Columns::Indexed(index) => values.extend(self.indexed_row(codes, index, groups)),
            }
        }
        values
    }

    /// The codes with the columns of each group next to each other, and for each column the position
    /// that it had. `None` if they are so already, or if a group before the last has another length
    /// than the first.
    pub(super) fn sorted(self) -> Option<(Self, Vec<u32>)> {
        let Columns::Indexed(group_of) = &self.group_of else { return None };
        let mut order: Vec<u32> = (0..u32::try_from(group_of.len()).ok()?).collect();
        // Columns of one group keep their order.
        order.sort_by_key(|&column| group_of[column as usize]);
        let len = group_of.iter().filter(|&&group| group == 0).count();
        let group = |at: usize| group_of[order[at] as usize] as usize;
        if len == 0 || (0..order.len()).any(|at| at / len != group(at)) {
            return None;
        }
        let rows = self.codes.chunks(self.columns.max(1));
        let row = |row: &'_ [i8]| order.iter().map(|&it| row[it as usize]).collect::<Vec<_>>();
        let codes = rows.flat_map(row).collect();
        Some((Self { codes, group_of: Columns::Runs(len), ..self }, order))
    }

    /// The codes in a scheme that has a scale for each group. The zero points are codes of the scheme.
    pub(super) fn into_tensor(
        self,
        shape: &[usize],
        scheme: QuantizationScheme,
    ) -> Result<QuantizedTensor, TensorError> {
        let Self { columns, codes, mut scales, mut zero_points, minimums, .. } = self;
        if scheme.granularity() == Granularity::PerTensor {
            // All rows have the same.
            scales.truncate(1);
            zero_points.truncate(1);
        }
        if !scheme.mapping().has_zero_points() {
            zero_points.clear();
        }
        let zero_points = zero_points.into_iter().map(|it| it as i8).collect();
        let packed = packing::pack(&codes, columns, scheme.quantization_type());
        if let Some(minimums) = minimums {
            return QuantizedTensor::with_minimums(shape, scheme, packed, scales, minimums);
        }
        QuantizedTensor::from_parts(shape, scheme, packed, scales, zero_points)
    }

    fn indexed_row<'a>(
        &'a self,
        codes: &'a [i8],
        index: &'a [u32],
        groups: Range<usize>,
    ) -> impl Iterator<Item = f32> + 'a {
        let group = move |column: usize| groups.start + index[column] as usize;
        codes.iter().enumerate().map(move |(column, &code)| self.value(code, group(column)))
    }

    fn value(&self, code: i8, group: usize) -> f32 {
        let zero_point = self.zero_points.get(group).copied().unwrap_or(0);
        f32::from(i16::from(code) - zero_point) * self.scales[group]
    }
}

/// The rows of a matrix as its columns.
pub(super) fn transposed<T: Copy>(values: &[T], columns: usize) -> Vec<T> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_width_lie_end_to_end_across_words() {
        for bits in 1..=8usize {
            let codes: Vec<u8> =
                (0..67u32).map(|i| (i * 73 % 251) as u8 & ((1 << bits) - 1) as u8).collect();
            let mut words = vec![0u32; dense_words(codes.len(), bits).unwrap()];
            for bit in 0..codes.len() * bits {
                words[bit / 32] |= u32::from(codes[bit / bits] >> (bit % bits) & 1) << (bit % 32);
            }
            let read = (0..codes.len()).map(|index| dense(|word| words[word], bits, index));
            assert_eq!(read.collect::<Vec<_>>(), codes, "{bits} bits");
        }
        assert_eq!(dense_words(usize::MAX, 2), None);
    }

    #[test]
    fn values_are_those_of_the_group_of_their_column() {
        let mut codes = Codes {
            columns: 3,
            codes: vec![1, 2, 3, -1, -2, -3],
            groups: 2,
            group_of: Columns::Runs(2),
            scales: vec![1.0, 10.0, 100.0, 1000.0],
            zero_points: vec![],
            minimums: None,
        };
        assert_eq!(codes.values(), [1.0, 2.0, 30.0, -100.0, -200.0, -3000.0]);
        codes.group_of = Columns::Indexed(vec![1, 0, 1]);
        codes.zero_points = vec![1, 0, 0, 128];
        assert_eq!(codes.values(), [10.0, 1.0, 30.0, -129_000.0, -200.0, -131_000.0]);
    }

    #[test]
    fn an_index_that_is_in_order_is_one_of_runs() {
        let index = |index: &[u32], run| Columns::indexed(index.to_vec(), 2, run);
        assert_eq!(index(&[0, 0, 1], Some(2)), Ok(Columns::Runs(2)));
        assert_eq!(index(&[0, 1, 0], Some(2)), Ok(Columns::Indexed(vec![0, 1, 0])));
        assert_eq!(index(&[0, 2, 0], Some(2)), Err(1));
    }

    #[test]
    fn columns_are_sorted_by_group_where_groups_are_equally_long() {
        let codes = |group_of: &[u32]| Codes {
            columns: group_of.len(),
            codes: (0..2 * group_of.len() as i8).collect(),
            groups: 2,
            group_of: Columns::Indexed(group_of.into()),
            scales: vec![1.0, 10.0, 100.0, 1000.0],
            zero_points: vec![],
            minimums: None,
        };
        for (group_of, order) in
            [(&[1, 0, 0, 1][..], &[1, 2, 0, 3][..]), (&[1, 0, 0], &[1, 2, 0]), (&[0, 0], &[0, 1])]
        {
            let (sorted, found) = codes(group_of).sorted().unwrap();
            assert_eq!((&*found, &sorted.group_of), (order, &Columns::Runs(2)));
            let (before, after) = (codes(group_of).values(), sorted.values());
            let width = order.len();
            for (at, value) in after.iter().enumerate() {
                assert_eq!(*value, before[at / width * width + order[at % width] as usize]);
            }
        }
        for group_of in [&[0, 1, 1][..], &[1, 1], &[]] {
            assert_eq!(codes(group_of).sorted(), None, "{group_of:?}");
        }
        assert_eq!(Codes { group_of: Columns::Runs(2), ..codes(&[0, 1]) }.sorted(), None);
    }

    #[test]
    fn transposition_swaps_rows_and_columns() {
        assert_eq!(transposed(&[1, 2, 3, 4, 5, 6], 3), [1, 4, 2, 5, 3, 6]);
        assert!(transposed::<u8>(&[], 0).is_empty());
    }
}
