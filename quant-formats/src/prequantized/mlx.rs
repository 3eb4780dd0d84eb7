//! MLX: unsigned codes packed along the inputs, with a scale and a bias for each group.
//!
//! ```text
//! weight  U32 [out, in · bits / 32]  row o: the codes of output o, dense
//! scales  [out, groups]
//! biases  [out, groups]
//! ```
//!
//! A value is `code · scale + bias`, the product and the sum each rounded.

use quant::RecordError;

use super::codes::{Codes, Columns, dense, dense_words};
use super::component::{Component, Reader};
use super::config::Config;
use super::packed::split;
use super::recognize::Found;
use super::scheme::{Integers, Sharing};
use crate::method::Refusal;

#[derive(Debug)]
pub(super) struct Mlx {
    codes: Component,
    scales: Component,
    biases: Component,
    pub(super) bits: usize,
    shape: Vec<usize>,
    group_len: usize,
}

impl Mlx {
    pub(super) fn plan(found: &Found<'_>, config: &Config) -> Result<Self, Refusal> {
        let (codes, scales, biases) = (found.codes, found.need(".scales")?, found.need(".biases")?);
        let Some((stacked, [outputs, words])) = split(&codes.shape) else {
            return Err(codes.misfit());
        };
        scales.check(scales.is_float())?;
        biases.check(biases.is_float() && biases.shape == scales.shape)?;
        let groups = match split(&scales.shape) {
            Some((in_front, [rows, groups])) if in_front == stacked && rows == outputs => groups,
            _ => return Err(scales.misfit()),
        };
        let (bits, group_len) = width(words, groups, config)
            .ok_or(Refusal::Ambiguous { what: "bits and length of groups" })?;
        let shape = [stacked, &[outputs, groups * group_len]].concat();
        let (codes, scales, biases) = (codes.clone(), scales.clone(), biases.clone());
        Ok(Self { codes, scales, biases, bits, shape, group_len })
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    /// What decides on a scheme; `None` if scales and biases are of different types.
    pub(super) fn integers(&self) -> Option<Integers> {
        let scale_dtype = self.scales.dtype;
        (self.biases.dtype == scale_dtype).then(|| Integers {
            shape: self.shape(),
            bits: self.bits,
            sharing: Sharing::of_columns(Some(Columns::Runs(self.group_len))),
            scale_dtype,
            zero_points: Vec::new(),
            over_minimums: true,
        })
    }

    pub(super) fn codes(&self, from: Reader<'_>) -> Result<Codes, RecordError> {
        let words = from.words(&self.codes)?;
        let middle = 1u8 << (self.bits - 1);
        let signed = |code: u8| code.wrapping_sub(middle) as i8;
        let columns = self.columns();
        Ok(Codes {
            columns,
            codes: self.unsigned(&words).map(signed).collect(),
            groups: columns / self.group_len,
            group_of: Columns::Runs(self.group_len),
            scales: from.floats(&self.scales)?,
            zero_points: Vec::new(),
            minimums: Some(from.floats(&self.biases)?),
        })
    }

    pub(super) fn read(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        let words = from.words(&self.codes)?;
        let (scales, biases) = (from.floats(&self.scales)?, from.floats(&self.biases)?);
        // Groups end with rows.
        let value = |(at, code): (usize, u8)| {
            let group = at / self.group_len;
            f32::from(code) * scales[group] + biases[group]
        };
        Ok(self.unsigned(&words).enumerate().map(value).collect())
    }

    fn columns(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }

    /// The codes as they are stored, row by row.
    fn unsigned<'a>(&self, words: &'a [u32]) -> impl Iterator<Item = u8> + use<'a> {
        let (columns, bits) = (self.columns(), self.bits);
        let words_in_row = columns * bits / 32;
        words.chunks(words_in_row.max(1)).flat_map(move |words| {
            (0..columns).map(move |column| dense(|word| words[word], bits, column))
        })
    }
}

/// Bits and length of groups as the configuration has them, if a row has this many words.
fn width(words: usize, groups: usize, config: &Config) -> Option<(usize, usize)> {
    let mut pairs =
        config.bits.iter().flat_map(|&bits| config.group_lens.iter().map(move |&len| (bits, len)));
    let fits = |&(bits, len): &(usize, usize)| {
        let codes = groups.checked_mul(len);
        let whole = codes.and_then(|codes| codes.checked_mul(bits));
        (1..=8).contains(&bits)
            && whole.is_some_and(|it| it.is_multiple_of(32))
            && codes.and_then(|codes| dense_words(codes, bits)) == Some(words)
    };
    pairs.find(fits)
}
