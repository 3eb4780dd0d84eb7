//! compressed-tensors, `pack-quantized`: codes packed along the inputs, row by row.
//!
//! ```text
//! weight_packed      I32 [out, ⌈in · bits / 32⌉]  dense; older releases: ⌊32 / bits⌋ codes a word
//! weight_scale       [out, groups] or [1]
//! weight_shape       I64 [out, in]
//! weight_zero_point  I32 [⌈out · bits / 32⌉, groups]  column g: dense along the outputs
//! weight_g_idx       I32 [in]                         the group of each input; -1: in runs
//! ```
//!
//! Codes and zero points are stored with `2^(bits - 1)` added. Stacked matrices have one more axis
//! in front.

use quant::RecordError;

use super::codes::{Codes, Columns, dense, dense_words};
use super::component::{Component, Reader};
use super::config::Config;
use super::error::PreQuantizedError;
use super::recognize::Found;
use super::scheme::{Integers, Sharing};
use crate::method::Refusal;
use crate::safetensors::Dtype;

#[derive(Debug)]
pub(super) struct Packed {
    codes: Component,
    scales: Component,
    zeros: Option<Component>,
    index: Option<Component>,
    pub(super) bits: usize,
    packing: Packing,
    /// The extents before the last two.
    stacked: Vec<usize>,
    outputs: usize,
    inputs: usize,
    groups: usize,
    group_len: Option<usize>,
}

/// Where the codes of a row are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Packing {
    /// End to end, across words.
    Dense,
    /// As many in a word as fit.
    Whole,
}

impl Packed {
    pub(super) fn plan(
        found: &Found<'_>,
        config: &Config,
        shape: &[usize],
    ) -> Result<Self, Refusal> {
        let (codes, scales) = (found.codes, found.need("_scale")?);
        let (stacked, [outputs, inputs]) = split(shape).ok_or_else(|| codes.misfit())?;
        let Some((in_front, [rows, words])) = split(&codes.shape) else {
            return Err(codes.misfit());
        };
        codes.check(codes.is_words() && in_front == stacked && rows == outputs)?;
        let (bits, packing) = width(words, inputs, &config.bits).ok_or_else(|| codes.misfit())?;
        let groups = match split(&scales.shape) {
            _ if scales.len() == 1 => 1,
            Some((in_front, [rows, groups])) if in_front == stacked && rows == outputs => groups,
            _ => return Err(scales.misfit()),
        };
        scales.check(scales.is_float())?;
        let zeros = found.part("_zero_point");
        if let Some(zeros) = zeros {
            let words = dense_words(outputs, bits).ok_or_else(|| zeros.misfit())?;
            let packed = [stacked, &[words, groups]].concat();
            zeros.check(
                zeros.is_words() && zeros.shape == packed
                    || zeros.dtype == Dtype::I8 && zeros.shape == scales.shape,
            )?;
        }
        let index = found.part("_g_idx");
        if let Some(index) = index {
            index.check(index.is_words() && index.shape == [inputs])?;
        }
        let group_len = config.group_len(inputs, groups);
        if group_len.is_none() && index.is_none() {
            return Err(Refusal::Ambiguous { what: "length of groups" });
        }
        let (codes, scales) = (codes.clone(), scales.clone());
        let (zeros, index, stacked) = (zeros.cloned(), index.cloned(), stacked.to_vec());
        Ok(Self {
            codes,
            scales,
            zeros,
            index,
            bits,
            packing,
            stacked,
            outputs,
            inputs,
            groups,
            group_len,
        })
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        [&*self.stacked, &[self.outputs, self.inputs]].concat()
    }

    pub(super) fn read(&self, from: Reader<'_>) -> Result<Codes, RecordError> {
        Ok(Codes {
            columns: self.inputs,
            codes: self.unpacked(&from.words(&self.codes)?),
            groups: self.groups,
            group_of: self.columns(from)??,
            scales: self.scales(from)?,
            zero_points: self.zero_points(from)?,
            minimums: None,
        })
    }

    /// What decides on a scheme.
    pub(super) fn integers(&self, from: Reader<'_>) -> Result<Integers, RecordError> {
        let zero_points = self.zero_points(from)?;
        // One scale may have a zero point for each row.
        let is_whole = self.scales.len() == 1 && zero_points.windows(2).all(|it| it[0] == it[1]);
        let sharing = match self.columns(from)? {
            Ok(Columns::Runs(_)) if is_whole => Sharing::Tensor,
            columns => Sharing::of_columns(columns.ok()),
        };
        let (shape, scale_dtype) = (self.shape(), self.scales.dtype);
        Ok(Integers {
            shape,
            bits: self.bits,
            sharing,
            scale_dtype,
            zero_points,
            over_minimums: false,
        })
    }

    /// The scales of each row. The only one of a tensor is that of all rows.
    pub(super) fn scales(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        Ok(self.for_each_row(from.floats(&self.scales)?))
    }

    /// What belongs to groups of each row; the only one of a tensor, once for each row.
    fn for_each_row<T: Copy>(&self, groups: Vec<T>) -> Vec<T> {
        match groups[..] {
            [only] if self.scales.len() == 1 => vec![only; self.rows()],
            _ => groups,
        }
    }

    fn rows(&self) -> usize {
        // The first axes of the codes, whose bytes have been counted.
        self.codes.shape.iter().rev().skip(1).product()
    }

    fn columns(&self, from: Reader<'_>) -> Result<Result<Columns, PreQuantizedError>, RecordError> {
        let index = match &self.index {
            None => None,
            Some(index) => Some((index, from.words(index)?)),
        };
        Ok(match (index, self.group_len) {
            // -1 stands for columns in order.
            (Some((_, words)), Some(len)) if words.contains(&u32::MAX) => Ok(Columns::Runs(len)),
            (Some((index, words)), run) => Columns::indexed(words, self.groups, run)
                .map_err(|column| PreQuantizedError::group(&index.id, column, self.groups)),
            (None, Some(len)) => Ok(Columns::Runs(len)),
            (None, None) => unreachable!("a layout without an index has runs"),
        })
    }

    fn unpacked(&self, words: &[u32]) -> Vec<i8> {
        let Self { bits, packing, inputs, .. } = *self;
        // Without inputs there may be any number of rows.
        if inputs == 0 {
            return Vec::new();
        }
        let rows = self.rows();
        let words_in_row = words.len().checked_div(rows).unwrap_or(0);
        let middle = 1u8 << (bits - 1);
        let mut codes = Vec::with_capacity(rows * inputs);
        for row in 0..rows {
            let words = &words[row * words_in_row..];
            let code = |input| match packing {
                Packing::Dense => dense(|word| words[word], bits, input),
                Packing::Whole => whole(words, bits, input),
            };
            codes.extend((0..inputs).map(|input| code(input).wrapping_sub(middle) as i8));
        }
        codes
    }

    /// For each row, the zero point of each group.
    fn zero_points(&self, from: Reader<'_>) -> Result<Vec<i16>, RecordError> {
        let Some(zeros) = &self.zeros else { return Ok(Vec::new()) };
        if zeros.dtype == Dtype::I8 {
            let zeros = from.bytes(zeros)?.into_iter().map(|byte| i16::from(byte as i8));
            return Ok(self.for_each_row(zeros.collect()));
        }
        let Self { bits, outputs, groups, .. } = *self;
        let words = from.words(zeros)?;
        let words_in_matrix = words.len() / self.stacked.iter().product::<usize>().max(1);
        let middle = 1 << (bits - 1);
        let mut zero_points = Vec::with_capacity(self.scales.len());
        for matrix in words.chunks(words_in_matrix.max(1)) {
            for output in 0..outputs {
                let stored = |group| dense(|word| matrix[word * groups + group], bits, output);
                zero_points.extend((0..groups).map(|group| i16::from(stored(group)) - middle));
            }
        }
        Ok(zero_points)
    }
}

/// The extents before the last two, and those.
pub(super) fn split(shape: &[usize]) -> Option<(&[usize], [usize; 2])> {
    let (stacked, matrix) = shape.split_last_chunk::<2>()?;
    Some((stacked, *matrix))
}

/// Code `index` where no code lies in two words.
fn whole(words: &[u32], bits: usize, index: usize) -> u8 {
    let in_word = 32 / bits;
    (words[index / in_word] >> (index % in_word * bits) & ((1 << bits) - 1)) as u8
}

/// The bits of codes of which `codes` take `words` words; those of the configuration, if they fit.
fn width(words: usize, codes: usize, known: &[usize]) -> Option<(usize, Packing)> {
    let packing = |bits: usize| {
        if dense_words(codes, bits) == Some(words) {
            Some((bits, Packing::Dense))
        } else {
            (codes.div_ceil(32 / bits) == words).then_some((bits, Packing::Whole))
        }
    };
    let known = known.iter().copied().filter(|bits| (1..=8).contains(bits));
    if let Some(found) = known.clone().find_map(packing) {
        return Some(found);
    }
    // Without a configuration there must be one answer.
    let mut fitting = (1..=8).filter_map(packing).filter(|(_, packing)| *packing == Packing::Dense);
    let only = fitting.next().filter(|_| fitting.next().is_none());
    only.filter(|_| known.count() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_words_tells_the_packing() {
        assert_eq!(width(12, 128, &[3]), Some((3, Packing::Dense)));
        assert_eq!(width(13, 128, &[3]), Some((3, Packing::Whole)));
        assert_eq!(width(16, 128, &[4]), Some((4, Packing::Dense)));
        assert_eq!(width(16, 128, &[8, 4]), Some((4, Packing::Dense)));
        assert_eq!(width(17, 128, &[4]), None);
        assert_eq!(width(16, 128, &[]), Some((4, Packing::Dense)));
        assert_eq!(width(1, 4, &[]), None);
        assert_eq!(width(1, 4, &[99, 5]), Some((5, Packing::Dense)));
    }
}
