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

use super::codes::{dense, dense_words};
use super::component::{Component, Reader};
use super::config::Config;
use super::packed::split;
use super::recognize::Found;
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

    pub(super) fn read(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        let (words, columns) = (from.words(&self.codes)?, self.shape[self.shape.len() - 1]);
        let (scales, biases) = (from.floats(&self.scales)?, from.floats(&self.biases)?);
        let (words_in_row, groups) = (columns * self.bits / 32, columns / self.group_len);
        let mut values = Vec::new();
        for (row, words) in words.chunks(words_in_row.max(1)).enumerate() {
            values.extend((0..columns).map(|column| {
                let group = row * groups + column / self.group_len;
                f32::from(dense(|word| words[word], self.bits, column)) * scales[group]
                    + biases[group]
            }));
        }
        Ok(values)
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
