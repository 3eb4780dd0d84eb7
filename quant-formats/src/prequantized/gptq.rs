//! GPTQ: codes packed along the inputs.
//!
//! ```text
//! qweight  I32 [in · bits / 32, out]    column o: the codes of output o, dense
//! qzeros   I32 [groups, out · bits / 32]  row g: the zero points of group g, dense
//! scales   F16 [groups, out]
//! g_idx    I32 [in]                     the group of each input; in runs unless act-order is on
//! ```
//!
//! Codes are unsigned. Version 1, which files have unless their configuration says `gptq_v2`,
//! stores each zero point minus 1.

use quant::RecordError;

use super::codes::{Codes, Columns, dense, transposed};
use super::component::{Component, Reader};
use super::config::Config;
use super::error::PreQuantizedError;
use super::recognize::Found;
use super::scheme::{Integers, Sharing};
use crate::method::Refusal;

#[derive(Debug)]
pub(super) struct Gptq {
    codes: Component,
    zeros: Component,
    scales: Component,
    index: Option<Component>,
    pub(super) bits: usize,
    /// What is added to a zero point.
    zero_offset: i16,
    inputs: usize,
    outputs: usize,
    groups: usize,
    /// The length of groups in runs.
    group_len: Option<usize>,
}

impl Gptq {
    pub(super) fn plan(found: &Found<'_>, config: &Config) -> Result<Self, Refusal> {
        let zero_offset = match config.variant.as_deref() {
            None | Some("gptq") => 1,
            Some("gptq_v2") => 0,
            Some(name) => return Err(Refusal::Variant { name: name.into() }),
        };
        let (codes, zeros, scales) = (found.codes, found.need(".qzeros")?, found.need(".scales")?);
        let ([rows, outputs], [groups, zero_words]) = (codes.extents()?, zeros.extents()?);
        scales.check(scales.is_float() && scales.shape == [groups, outputs])?;
        let bits = bits(zero_words, outputs).ok_or_else(|| zeros.misfit())?;
        zeros.check(zeros.is_words())?;
        let inputs = rows.checked_mul(32).filter(|it| it.is_multiple_of(bits));
        let inputs = inputs.ok_or_else(|| codes.misfit())? / bits;
        let index = found.part(".g_idx");
        if let Some(index) = index {
            index.check(index.is_words() && index.shape == [inputs])?;
        }
        let group_len = config.group_len(inputs, groups);
        if group_len.is_none() && index.is_none() {
            return Err(Refusal::Ambiguous { what: "length of groups" });
        }
        let (codes, zeros, scales) = (codes.clone(), zeros.clone(), scales.clone());
        let index = index.cloned();
        Ok(Self {
            codes,
            zeros,
            scales,
            index,
            bits,
            zero_offset,
            inputs,
            outputs,
            groups,
            group_len,
        })
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        vec![self.outputs, self.inputs]
    }

    pub(super) fn read(&self, from: Reader<'_>) -> Result<Codes, RecordError> {
        Ok(Codes {
            columns: self.inputs,
            codes: self.unpacked(&from.words(&self.codes)?),
            groups: self.groups,
            group_of: self.columns(from)??,
            scales: self.scales(from)?,
            zero_points: self.zero_points(&from.words(&self.zeros)?),
            minimums: None,
        })
    }

    /// What decides on a scheme.
    pub(super) fn integers(&self, from: Reader<'_>) -> Result<Integers, RecordError> {
        Ok(Integers {
            shape: self.shape(),
            bits: self.bits,
            sharing: Sharing::of_columns(self.columns(from)?.ok()),
            scale_dtype: self.scales.dtype,
            zero_points: self.zero_points(&from.words(&self.zeros)?),
            over_minimums: false,
        })
    }

    /// The scales of each output.
    pub(super) fn scales(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        Ok(transposed(&from.floats(&self.scales)?, self.outputs))
    }

    fn columns(&self, from: Reader<'_>) -> Result<Result<Columns, PreQuantizedError>, RecordError> {
        let Some(index) = &self.index else {
            let len = self.group_len.expect("a layout without an index has runs");
            return Ok(Ok(Columns::Runs(len)));
        };
        let columns = Columns::indexed(from.words(index)?, self.groups, self.group_len);
        Ok(columns.map_err(|column| PreQuantizedError::group(&index.id, column, self.groups)))
    }

    /// The codes of each output.
    fn unpacked(&self, words: &[u32]) -> Vec<i8> {
        let Self { bits, inputs, outputs, .. } = *self;
        let middle = 1u8 << (bits - 1);
        let mut codes = vec![0; inputs * outputs];
        // 32 codes take a whole number of words. Whole runs of words and codes stay in the cache.
        for start in (0..inputs).step_by(32) {
            for output in 0..outputs {
                for input in start..inputs.min(start + 32) {
                    let code = dense(|word| words[word * outputs + output], bits, input);
                    codes[output * inputs + input] = code.wrapping_sub(middle) as i8;
                }
            }
        }
        codes
    }

    /// The zero point of each group, for each output.
    fn zero_points(&self, words: &[u32]) -> Vec<i16> {
        let Self { bits, outputs, groups, .. } = *self;
        let words_in_row = words.len() / groups.max(1);
        let middle = 1 << (bits - 1);
        let zero_point = |output: usize, group: usize| {
            let stored = dense(|word| words[group * words_in_row + word], bits, output);
            i16::from(stored) + self.zero_offset - middle
        };
        (0..outputs)
            .flat_map(|output| (0..groups).map(move |group| (output, group)))
            .map(|(output, group)| zero_point(output, group))
            .collect()
    }
}

/// The bits of codes of which `outputs` take exactly `words` words.
fn bits(words: usize, outputs: usize) -> Option<usize> {
    let bits = words.checked_mul(32)?.checked_div(outputs)?;
    (matches!(bits, 2..=8) && bits * outputs == words * 32).then_some(bits)
}
