//! Codes of 2 to 8 bits in rows.

use quant_kernels::scheme::{QuantizationType, packing};

use crate::encoding::Version;

/// The codes of a tensor in place. A row is the last axis, and starts on a byte of its own; a scalar is
/// one row of one code.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    bytes: &'a [u8],
    rows: usize,
    row_len: usize,
    width: u32,
}

/// One row of codes.
#[derive(Clone, Copy, Debug)]
pub struct CodeRow<'a> {
    bytes: &'a [u8],
    len: usize,
    width: u32,
}

/// How the codes of a tensor lie among its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeLayout {
    rows: usize,
    row_len: usize,
    width: u32,
}

impl CodeLayout {
    /// Version 1 stores codes in 8, 4 or 2 bits, version 2 in as many as they have. `None` if the codes
    /// cannot be counted.
    pub(crate) fn new(shape: &[usize], ty: QuantizationType, version: Version) -> Option<Self> {
        let (row_len, rows) = packing::rows(shape)?;
        let width = if version == Version::V1 { ty.storage_bits() } else { ty.bits() };
        Some(Self { rows, row_len, width })
    }

    /// The bytes of all rows, or `None` if they cannot be counted.
    pub(crate) fn byte_count(self) -> Option<usize> {
        row_bytes(self.row_len, self.width).checked_mul(self.rows)
    }

    pub(crate) fn over(self, bytes: &[u8]) -> Codes<'_> {
        let Self { rows, row_len, width } = self;
        Codes { bytes, rows, row_len, width }
    }
}

impl<'a> Codes<'a> {
    /// The bytes as they are stored.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The number of rows.
    pub const fn row_count(&self) -> usize {
        self.rows
    }

    /// The number of codes in a row.
    pub const fn row_len(&self) -> usize {
        self.row_len
    }

    /// The bits that a code takes in the file.
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// The row with this number, or `None` after the last one.
    pub fn row(&self, index: usize) -> Option<CodeRow<'a>> {
        let len = row_bytes(self.row_len, self.width);
        let start = index.checked_mul(len)?;
        let bytes = self.bytes.get(start..start.checked_add(len)?)?;
        (index < self.rows).then_some(CodeRow { bytes, len: self.row_len, width: self.width })
    }

    /// The rows in order.
    pub fn rows(&self) -> impl Iterator<Item = CodeRow<'a>> + use<'a> {
        let codes = *self;
        (0..codes.rows).map_while(move |index| codes.row(index))
    }
}

impl<'a> CodeRow<'a> {
    /// The number of codes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes as they are stored.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The codes in place, or `None` where they take fewer than 8 bits.
    pub fn as_i8(&self) -> Option<&'a [i8]> {
        (self.width == 8).then(|| bytemuck::cast_slice(self.bytes))
    }

    /// The code at `index`, or `None` after the last one.
    pub fn get(&self, index: usize) -> Option<i8> {
        if index >= self.len {
            return None;
        }
        let width = self.width as usize;
        // Eight codes fill `width` bytes, so that nothing overflows.
        let bit = index % 8 * width;
        let at = index / 8 * width + bit / 8;
        let low = *self.bytes.get(at)?;
        let high = self.bytes.get(at + 1).copied().unwrap_or(0);
        let bits = u16::from_le_bytes([low, high]) >> (bit % 8);
        // Up to the top of the byte, then down again, carrying the sign.
        Some(((bits << (8 - width)) as u8 as i8) >> (8 - width))
    }

    /// The codes in order.
    pub fn iter(&self) -> impl Iterator<Item = i8> + use<'a> {
        let row = *self;
        (0..row.len).map_while(move |index| row.get(index))
    }

    /// Whether the bits after the last code are 0.
    pub(crate) fn has_clean_padding(&self) -> bool {
        let used = self.len % 8 * self.width as usize % 8;
        used == 0 || self.bytes.last().is_none_or(|last| last >> used == 0)
    }
}

/// `⌈len × width / 8⌉` without overflow.
const fn row_bytes(len: usize, width: u32) -> usize {
    let width = width as usize;
    len / 8 * width + (len % 8 * width).div_ceil(8)
}
