//! One byte for each value, with scales per tensor, channel, group or block: FP8 and int8.
//!
//! ```text
//! weight            F8_E4M3, F8_E5M2 or I8 [out, in]
//! weight_scale      [], [1], [out], [out, 1], [out, groups] or [⌈out / 128⌉, ⌈in / 128⌉]
//! weight_scale_inv  the same, and multiplied as well, despite its name
//! weight_zero_point I8, as weight_scale
//! ```
//!
//! Stacked matrices have one more axis in front, in both tensors.

use quant::RecordError;

use super::codes::{Codes, Columns};
use super::component::{Component, Reader};
use super::config::Config;
use super::packed::split;
use super::recognize::Found;
use super::scheme::{Integers, Sharing};
use super::small_float;
use crate::method::Refusal;
use crate::safetensors::Dtype;

#[derive(Debug)]
pub(super) struct Scaled {
    codes: Component,
    scales: Component,
    zeros: Option<Component>,
    blocks: Blocks,
}

/// The elements that share a scale: rows and columns of a block, in a matrix of so many columns and
/// blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Blocks {
    matrix: [usize; 2],
    block: [usize; 2],
    /// The scales of a matrix, and of one row of blocks; 0 if all matrices have the same.
    scales: usize,
    in_row: usize,
}

impl Scaled {
    pub(super) fn plan(found: &Found<'_>, config: &Config) -> Result<Self, Refusal> {
        let codes = found.codes;
        let inverse = found.part("_scale_inv").or_else(|| found.part(".scale_weight"));
        let scales = match inverse {
            Some(scales) => scales,
            None => found.need("_scale")?,
        };
        codes.check(codes.is_float8() || codes.dtype == Dtype::I8)?;
        scales.check(scales.is_float() || matches!(scales.dtype, Dtype::F8_E8M0 | Dtype::U8))?;
        let blocks = Blocks::plan(codes, scales, config)?;
        let zeros = found.part("_zero_point");
        if let Some(zeros) = zeros {
            zeros.check(zeros.dtype == Dtype::I8 && zeros.shape == scales.shape)?;
        }
        Ok(Self { codes: codes.clone(), scales: scales.clone(), zeros: zeros.cloned(), blocks })
    }

    pub(super) fn is_integer(&self) -> bool {
        self.codes.dtype == Dtype::I8
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        self.codes.shape.clone()
    }

    pub(super) fn read(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        let (codes, scales) = (from.bytes(&self.codes)?, self.scales(from)?);
        let zeros = self.zero_points(from)?;
        let table = small_float::table(self.codes.dtype);
        let mut values = Vec::with_capacity(codes.len());
        for (run, scale) in self.blocks.runs(codes.len()) {
            let codes = &codes[run];
            let scale_of = scales[scale];
            let zero = zeros.get(scale).copied().unwrap_or(0);
            let value = |code: u8| match &table {
                Some(table) => table[usize::from(code)] * scale_of,
                None => f32::from(i16::from(code as i8) - zero) * scale_of,
            };
            values.extend(codes.iter().map(|&code| value(code)));
        }
        Ok(values)
    }

    /// What decides on a scheme; `None` if the codes are floats.
    pub(super) fn integers(&self, from: Reader<'_>) -> Result<Option<Integers>, RecordError> {
        if !self.is_integer() {
            return Ok(None);
        }
        let sharing = match self.blocks {
            _ if self.scales.len() == 1 => Sharing::Tensor,
            Blocks { block, .. } => Sharing::Block(block),
        };
        let (shape, scale_dtype) = (self.shape(), self.scales.dtype);
        let zero_points = self.zero_points(from)?;
        Ok(Some(Integers {
            shape,
            bits: 8,
            sharing,
            scale_dtype,
            zero_points,
            over_minimums: false,
        }))
    }

    /// The codes, if they are integers, with scales in the order of their blocks.
    pub(super) fn codes(&self, from: Reader<'_>) -> Result<Codes, RecordError> {
        let codes = from.bytes(&self.codes)?;
        let Blocks { matrix: [_, columns], block: [_, len], in_row, .. } = self.blocks;
        Ok(Codes {
            columns,
            codes: codes.into_iter().map(|byte| byte as i8).collect(),
            groups: in_row,
            group_of: Columns::Runs(len),
            scales: self.scales(from)?,
            zero_points: self.zero_points(from)?,
            minimums: None,
        })
    }

    pub(super) fn scales(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        from.floats(&self.scales)
    }

    fn zero_points(&self, from: Reader<'_>) -> Result<Vec<i16>, RecordError> {
        match &self.zeros {
            None => Ok(Vec::new()),
            Some(zeros) => {
                Ok(from.bytes(zeros)?.into_iter().map(|byte| i16::from(byte as i8)).collect())
            }
        }
    }
}

impl Blocks {
    fn plan(codes: &Component, scales: &Component, config: &Config) -> Result<Self, Refusal> {
        // A vector is a matrix of one row.
        let (stacked, matrix) = split(&codes.shape).unwrap_or((&[], [1, codes.len()]));
        if scales.len() == 1 {
            let block = matrix.map(|extent| extent.max(1));
            return Ok(Self { matrix, block, scales: 0, in_row: 1 });
        }
        let of_matrix = match split(&scales.shape) {
            Some((in_front, of_matrix)) if in_front == stacked => of_matrix,
            // A scale for each row, without the axis of columns.
            _ if scales.shape == codes.shape[..codes.shape.len().saturating_sub(1)] => {
                [matrix[0], 1]
            }
            // A scale for each matrix of a stack.
            _ if scales.shape == stacked => [1, 1],
            _ => return Err(scales.misfit()),
        };
        let [rows, in_row] = of_matrix;
        let block = config.block(matrix, of_matrix).ok_or_else(|| scales.misfit())?;
        Ok(Self { matrix, block, scales: rows * in_row, in_row })
    }

    /// Runs of elements in order, each with the position of its scale.
    fn runs(self, elements: usize) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> {
        let Self { matrix: [rows, columns], block, scales, in_row } = self;
        let lines = elements.checked_div(columns).unwrap_or(0);
        (0..lines).flat_map(move |line| {
            let (matrix, row) = (line / rows, line % rows);
            let first = matrix * scales + row / block[0] * in_row;
            (0..columns).step_by(block[1]).enumerate().map(move |(column, start)| {
                let end = columns.min(start + block[1]);
                (line * columns + start..line * columns + end, first + column)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_each_element_once_with_the_scale_of_its_block() {
        let blocks = Blocks { matrix: [3, 5], block: [2, 3], scales: 4, in_row: 2 };
        let runs: Vec<_> = blocks.runs(30).collect();
        let mut at = 0;
        for (run, scale) in runs {
            assert_eq!(run.start, at);
            let (line, column) = (at / 5, at % 5);
            assert_eq!(scale, line / 3 * 4 + line % 3 / 2 * 2 + column / 3);
            at = run.end;
        }
        assert_eq!(at, 30);
        let none = Blocks { matrix: [0, 0], block: [1, 1], scales: 0, in_row: 1 };
        assert_eq!(none.runs(0).count(), 0);
    }
}
