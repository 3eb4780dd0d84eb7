//! Quantizing keys and values into a cache.

use super::cache::KeyValueCache;
use super::error::AttentionError;
use super::panels::Panels;
use super::sizes::{BLOCK, PANEL};
use super::turn::turned;
use crate::dispatch::Kernel;
use crate::elementwise::affine::Affine;
use crate::elementwise::min_max::FindRange;
use crate::isa::{Isa, Operation};
use crate::scheme::{KeyValueScheme, f16_to_f32, f32_to_f16};

/// The least scale. Half precision has numbers below it, but too far apart.
const LEAST_SCALE: f64 = 1.0 / 262_144.0;

impl KeyValueCache {
    /// Quantizes the keys and values of further tokens, `[tokens, heads · head_dim]`, and keeps them. Keys
    /// have their positions in them already.
    ///
    /// # Errors
    /// The cache is then as before.
    /// - A slice does not have a row for each token, or there is no room for the tokens.
    /// - An element is not finite, or too large to be quantized.
    pub fn append(
        &mut self,
        kernel: Kernel,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), AttentionError> {
        let tokens = self.check(kernel, keys, values)?;
        kernel.run(Append { cache: self, keys, values })?;
        self.len += tokens;
        Ok(())
    }

    /// The number of tokens.
    fn check(&self, kernel: Kernel, keys: &[f32], values: &[f32]) -> Result<usize, AttentionError> {
        let (row, len, capacity) = (self.row(), self.len, self.shape.capacity);
        if !keys.len().is_multiple_of(row) {
            return Err(AttentionError::Rows { of: KEYS, len: keys.len(), row });
        }
        if keys.len() != values.len() {
            let (expected, found) = (keys.len(), values.len());
            return Err(AttentionError::Length { of: VALUES, expected, found });
        }
        let tokens = keys.len() / row;
        if tokens > capacity - len {
            return Err(AttentionError::Full { len, tokens, capacity });
        }
        self.check_elements(kernel, KEYS, keys)?;
        self.check_elements(kernel, VALUES, values)?;
        Ok(tokens)
    }

    /// Refuses elements that are not finite, or that could overflow when their row is turned.
    pub(super) fn check_elements(
        &self,
        kernel: Kernel,
        of: &'static str,
        elements: &[f32],
    ) -> Result<(), AttentionError> {
        let range = kernel.min_max(elements);
        let (lo, hi) = range.map_err(|error| AttentionError::NonFinite { of, error })?;
        if self.scheme() == KeyValueScheme::F32 || hi.max(-lo) <= LARGEST {
            return Ok(());
        }
        let index = elements.iter().position(|x| x.abs() > LARGEST).unwrap_or(0);
        Err(AttentionError::TooLarge { of, index: index - index % self.shape.head_dim })
    }
}

/// The largest element of a row that is turned. A turned row has no more than 65536 times that.
const LARGEST: f32 = f32::from_bits((127 + 100) << 23);

const KEYS: &str = "keys";
const VALUES: &str = "values";

/// Writes rows behind those of the cache, which do not count yet.
struct Append<'a> {
    cache: &'a mut KeyValueCache,
    keys: &'a [f32],
    values: &'a [f32],
}

impl Operation for Append<'_> {
    type Output = Result<(), AttentionError>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let Self { cache, keys, values } = self;
        let (row, dim) = (cache.row(), cache.shape.head_dim);
        let tokens = keys.chunks_exact(row).zip(values.chunks_exact(row));
        for (token, (keys, values)) in tokens.enumerate() {
            let position = cache.len + token;
            if cache.scheme() == KeyValueScheme::Int4 && position.is_multiple_of(PANEL) {
                let centers = cache.set_centers(isa, position / PANEL);
                centers.ok_or(AttentionError::TooLarge { of: KEYS, index: token * row })?;
            }
            let heads = keys.chunks_exact(dim).zip(values.chunks_exact(dim));
            for (head, (keys, values)) in heads.enumerate() {
                let index = token * row + head * dim;
                let at = Place { head, position, index };
                match cache.scheme() {
                    KeyValueScheme::F32 => at.floats(cache, keys, values),
                    KeyValueScheme::Int8 => at.bytes(isa, cache, keys, values)?,
                    KeyValueScheme::Int4 => at.nibbles(isa, cache, keys, values)?,
                }
            }
        }
        Ok(())
    }
}

/// Where a row goes.
#[derive(Clone, Copy)]
struct Place {
    head: usize,
    position: usize,
    /// The index of the first element in the slice.
    index: usize,
}

impl Place {
    #[inline(always)]
    fn floats(self, cache: &mut KeyValueCache, keys: &[f32], values: &[f32]) {
        let (panel, lane) = (self.position / PANEL, self.position % PANEL);
        for (step, key) in cache.keys.panel_mut(self.head, panel).iter_mut().zip(keys) {
            step[lane] = key.to_bits() as i32;
        }
        let row = self.head * cache.shape.capacity + self.position;
        cache.floats[row * values.len()..][..values.len()].copy_from_slice(values);
    }

    #[inline(always)]
    fn bytes<I: Isa>(
        self,
        isa: I,
        cache: &mut KeyValueCache,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), AttentionError> {
        let turned = turned(&mut cache.turned, keys);
        let kept = cache.keys.set_bytes(isa, [self.head, self.position], turned);
        kept.ok_or(AttentionError::TooLarge { of: KEYS, index: self.index })?;
        let turned = self::turned(&mut cache.turned, values);
        let row = self.head * cache.shape.capacity + self.position;
        let row = &mut cache.codes[row * turned.len()..][..turned.len()];
        let blocks = turned.chunks(BLOCK).zip(row.chunks_mut(BLOCK));
        for (block, (values, row)) in blocks.enumerate() {
            let too_large = AttentionError::TooLarge { of: VALUES, index: self.index };
            let (affine, half) = symmetric_block(isa, values).ok_or(too_large)?;
            cache.parameters.set_scale([self.head, block, self.position], half);
            let codes = codes(isa, affine, values).map(|code| code as u8);
            row.copy_from_slice(&codes[..row.len()]);
        }
        Ok(())
    }

    #[inline(always)]
    fn nibbles<I: Isa>(
        self,
        isa: I,
        cache: &mut KeyValueCache,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), AttentionError> {
        let row_bytes = cache.row_bytes();
        let (panel, lane) = (self.position / PANEL, self.position % PANEL);
        let KeyValueCache { keys: panels, centers, turned, .. } = cache;
        self::turned(turned, keys);
        for (key, center) in turned.iter_mut().zip(centers.bytes_of(self.head, panel)) {
            *key -= center;
        }
        for (block, keys) in turned.chunks(BLOCK).enumerate() {
            let (affine, half, zero) = self.affine(isa, KEYS, keys)?;
            panels.parameters.set_scale([self.head, block, self.position], half);
            panels.parameters.set_zero([self.head, block, self.position], zero);
            let words = words(&unsigned(codes(isa, affine, keys)));
            let steps = panels.panel_mut(self.head, panel)[block * (BLOCK / 8)..].iter_mut();
            for (words, step) in words.as_chunks::<2>().0.iter().zip(steps) {
                step[lane] = words[0] | words[1] << 4;
            }
        }
        for (block, values) in self::turned(turned, values).chunks(BLOCK).enumerate() {
            let (affine, half, zero) = self.affine(isa, VALUES, values)?;
            cache.parameters.set_scale([self.head, block, self.position], half);
            cache.parameters.set_zero([self.head, block, self.position], zero);
            let codes = unsigned(codes(isa, affine, values)).map(|code| code as u8);
            let row = (self.head * cache.shape.capacity + self.position) * row_bytes;
            let bytes = &mut cache.codes[row + block * (BLOCK / 2)..][..BLOCK / 2];
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[i] | codes[i + BLOCK / 2] << 4;
            }
        }
        Ok(())
    }

    /// The parameters of a block: its scale also in half precision, and the zero point of unsigned codes.
    #[inline(always)]
    fn affine<I: Isa>(
        self,
        isa: I,
        of: &'static str,
        values: &[f32],
    ) -> Result<(Affine, u16, u8), AttentionError> {
        let (lo, hi) = FindRange { values }.run(isa).range();
        let (lo, hi) = (f64::from(lo), f64::from(hi));
        let scale = ((hi - lo) / 15.0).max(LEAST_SCALE);
        let too_large = AttentionError::TooLarge { of, index: self.index };
        let (stored, half) = in_half_precision(scale).ok_or(too_large)?;
        let zero = rounded(-8.0 - lo / scale).clamp(-8, 7);
        Ok((Affine::new(stored, zero, -8, 7), half, (zero + 8) as u8))
    }
}

impl Panels {
    /// Quantizes a row to 8 bits; `None` if it is too large.
    #[inline(always)]
    pub(super) fn set_bytes<I: Isa>(
        &mut self,
        isa: I,
        [head, position]: [usize; 2],
        row: &[f32],
    ) -> Option<()> {
        for (block, row) in row.chunks(BLOCK).enumerate() {
            let (affine, half) = symmetric_block(isa, row)?;
            self.parameters.set_scale([head, block, position], half);
            let steps = &mut self.panel_mut(head, position / PANEL)[block * (BLOCK / 4)..];
            for (word, step) in words(&codes(isa, affine, row)).iter().zip(steps) {
                step[position % PANEL] = *word;
            }
        }
        Some(())
    }
}

/// The parameters of 8-bit codes of a block, and its scale in half precision; `None` if it is too large.
#[inline(always)]
fn symmetric_block<I: Isa>(isa: I, values: &[f32]) -> Option<(Affine, u16)> {
    let (lo, hi) = FindRange { values }.run(isa).range();
    let scale = f64::from(hi.max(-lo)) / 127.0;
    let (stored, half) = in_half_precision(scale.max(LEAST_SCALE))?;
    Some((Affine::new(stored, 0, -127, 127), half))
}

/// A scale as it is stored, if half precision has a number so large.
#[inline(always)]
fn in_half_precision(scale: f64) -> Option<(f32, u16)> {
    let half = f32_to_f16(scale as f32);
    let stored = f16_to_f32(half);
    stored.is_finite().then_some((stored, half))
}

/// Rounds a small number to the nearest integer, ties to even.
#[inline(always)]
fn rounded(x: f64) -> i32 {
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    ((x + ROUNDING) - ROUNDING) as i32
}

/// The codes of up to 32 values, followed by 0.
#[inline(always)]
pub(super) fn codes<I: Isa>(isa: I, affine: Affine, values: &[f32]) -> [i8; BLOCK] {
    let (mut padded, mut codes) = ([0.0; BLOCK], [0; BLOCK]);
    padded[..values.len()].copy_from_slice(values);
    affine.codes(isa, &padded, &mut codes);
    codes
}

/// `code + 8`.
#[inline(always)]
fn unsigned(codes: [i8; BLOCK]) -> [i8; BLOCK] {
    codes.map(|code| code + 8)
}

/// Four codes in each word.
#[inline(always)]
pub(super) fn words(codes: &[i8; BLOCK]) -> [i32; BLOCK / 4] {
    bytemuck::cast(*codes)
}
