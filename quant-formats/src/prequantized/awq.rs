//! AWQ: codes of 4 bits packed along the outputs.
//!
//! ```text
//! qweight  I32 [in, out / 8]      row i: the codes of input i
//! qzeros   I32 [groups, out / 8]  as codes
//! scales   F16 [groups, out]
//! ```
//!
//! The eight codes of a word, from the low bits up, are those of outputs 0, 2, 4, 6, 1, 3, 5, 7.

use quant::RecordError;

use super::codes::{Codes, Columns, transposed};
use super::component::{Component, Reader};
use super::config::Config;
use super::recognize::Found;
use super::scheme::{Integers, Sharing};
use crate::method::Refusal;

/// The position in its word of the code of each of eight outputs.
const POSITIONS: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The rows of a tile, as many as a cache line has bytes.
const TILE: usize = 64;

#[derive(Debug)]
pub(super) struct Awq {
    codes: Component,
    zeros: Component,
    scales: Component,
    inputs: usize,
    outputs: usize,
    groups: usize,
    group_len: usize,
}

impl Awq {
    pub(super) fn plan(found: &Found<'_>, config: &Config) -> Result<Self, Refusal> {
        match config.variant.as_deref() {
            None | Some("gemm" | "GEMM") => {}
            Some(name) => return Err(Refusal::Variant { name: name.into() }),
        }
        let (codes, zeros, scales) = (found.codes, found.need(".qzeros")?, found.need(".scales")?);
        let ([inputs, words], [groups, outputs]) = (codes.extents()?, scales.extents()?);
        codes.check(words.checked_mul(8) == Some(outputs))?;
        scales.check(scales.is_float())?;
        zeros.check(zeros.is_words() && zeros.shape == [groups, words])?;
        let group_len = config.group_len(inputs, groups);
        let group_len = group_len.ok_or(Refusal::Ambiguous { what: "length of groups" })?;
        let (codes, zeros, scales) = (codes.clone(), zeros.clone(), scales.clone());
        Ok(Self { codes, zeros, scales, inputs, outputs, groups, group_len })
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        vec![self.outputs, self.inputs]
    }

    pub(super) fn read(&self, from: Reader<'_>) -> Result<Codes, RecordError> {
        Ok(Codes {
            columns: self.inputs,
            codes: unpacked(&from.words(&self.codes)?, self.outputs),
            groups: self.groups,
            group_of: Columns::Runs(self.group_len),
            scales: self.scales(from)?,
            zero_points: self.zero_points(from)?,
            minimums: None,
        })
    }

    /// What decides on a scheme.
    pub(super) fn integers(&self, from: Reader<'_>) -> Result<Integers, RecordError> {
        Ok(Integers {
            shape: self.shape(),
            bits: 4,
            sharing: Sharing::of_columns(Some(Columns::Runs(self.group_len))),
            scale_dtype: self.scales.dtype,
            zero_points: self.zero_points(from)?,
            over_minimums: false,
        })
    }

    /// The scales of each output.
    pub(super) fn scales(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        Ok(transposed(&from.floats(&self.scales)?, self.outputs))
    }

    fn zero_points(&self, from: Reader<'_>) -> Result<Vec<i16>, RecordError> {
        let zeros = unpacked(&from.words(&self.zeros)?, self.outputs);
        Ok(zeros.into_iter().map(i16::from).collect())
    }
}

/// The codes of each output, in two's complement.
fn unpacked(words: &[u32], outputs: usize) -> Vec<i8> {
    let words_in_row = outputs / 8;
    let rows = words.len().checked_div(words_in_row).unwrap_or(0);
    let mut codes = vec![0; rows * outputs];
    // Words are read along rows, and codes are written along columns: tiles stay in the cache.
    for start in (0..rows).step_by(TILE) {
        for column in 0..words_in_row {
            for row in start..rows.min(start + TILE) {
                let word = words[row * words_in_row + column];
                for (output, position) in POSITIONS.into_iter().enumerate() {
                    let code = (word >> (4 * position) & 0xF) as i8 - 8;
                    codes[(8 * column + output) * rows + row] = code;
                }
            }
        }
    }
    codes
}
