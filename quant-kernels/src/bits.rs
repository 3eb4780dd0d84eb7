//! Packing of 4-bit and 2-bit codes, two or four to a byte (`docs/numerics.md`, rule 5), on every kernel.
//!
//! Element 0 is in the low bits, in two's complement; the bits after the last element are zero. Each slice is
//! one row, since rows start on a byte boundary. [`scheme::packing`](crate::scheme::packing) packs tensors in
//! the same format without a kernel.
//!
//! Imports `isa`, `dispatch` and `elementwise`.

use crate::dispatch::Kernel;
use crate::elementwise::affine::Affine;
use crate::isa::Isa;
use crate::isa::Operation;
use crate::scheme::{QuantParams, Quantization};

/// The width of packed codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BitWidth {
    /// Two codes to a byte, `-8 ..= 7`.
    Four,
    /// Four codes to a byte, `-2 ..= 1`.
    Two,
}

impl BitWidth {
    /// Bits of one code.
    pub const fn bits(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Two => 2,
        }
    }

    /// Codes in one byte.
    pub const fn per_byte(self) -> usize {
        8 / self.bits()
    }

    /// Bytes of a row of `len` codes.
    pub const fn row_bytes(self, len: usize) -> usize {
        len.div_ceil(self.per_byte())
    }

    /// Codes are `-half ..= half - 1`.
    const fn half(self) -> i32 {
        1 << (self.bits() - 1)
    }
}

impl Kernel {
    /// [`Kernel::quantize`] into one row of packed codes; the padding bits of its last byte are
    /// zero.
    ///
    /// # Panics
    /// - `out` does not have [`BitWidth::row_bytes`] bytes for `values`.
    /// - A code of `quantization` or its zero point does not fit the width.
    pub fn quantize_packed(
        self,
        width: BitWidth,
        values: &[f32],
        quantization: Quantization,
        out: &mut [u8],
    ) {
        assert_eq!(out.len(), width.row_bytes(values.len()), "bytes for the values");
        assert_width(width, quantization.codes.min());
        assert_width(width, quantization.codes.max());
        assert_width(width, quantization.params.zero_point());
        let affine = quantization.into();
        match width {
            BitWidth::Four => self.run(QuantizePacked::<4> { values, affine, out }),
            BitWidth::Two => self.run(QuantizePacked::<2> { values, affine, out }),
        }
    }

    /// [`Kernel::dequantize`] of one row of packed codes.
    ///
    /// # Panics
    /// - `codes` does not have [`BitWidth::row_bytes`] bytes for `out`.
    /// - The zero point does not fit the width.
    pub fn dequantize_packed(
        self,
        width: BitWidth,
        codes: &[u8],
        params: QuantParams,
        out: &mut [f32],
    ) {
        assert_eq!(codes.len(), width.row_bytes(out.len()), "bytes for the values");
        assert_width(width, params.zero_point());
        let affine = params.into();
        match width {
            BitWidth::Four => self.run(DequantizePacked::<4> { codes, affine, out }),
            BitWidth::Two => self.run(DequantizePacked::<2> { codes, affine, out }),
        }
    }

    /// Packs one row of codes; the padding bits of its last byte are zero.
    ///
    /// The high bits of codes outside the width are dropped.
    ///
    /// # Panics
    /// `out` does not have [`BitWidth::row_bytes`] bytes for `codes`.
    pub fn pack(self, width: BitWidth, codes: &[i8], out: &mut [u8]) {
        assert_eq!(out.len(), width.row_bytes(codes.len()), "bytes for the codes");
        match width {
            BitWidth::Four => self.run(Pack::<4> { codes, out }),
            BitWidth::Two => self.run(Pack::<2> { codes, out }),
        }
    }

    /// Unpacks one row of codes.
    ///
    /// # Panics
    /// `codes` does not have [`BitWidth::row_bytes`] bytes for `out`.
    pub fn unpack(self, width: BitWidth, codes: &[u8], out: &mut [i8]) {
        assert_eq!(codes.len(), width.row_bytes(out.len()), "bytes for the codes");
        match width {
            BitWidth::Four => self.run(Unpack::<4> { codes, out }),
            BitWidth::Two => self.run(Unpack::<2> { codes, out }),
        }
    }
}

fn assert_width(width: BitWidth, code: i8) {
    let codes = -width.half()..width.half();
    assert!(codes.contains(&code.into()), "codes and zero points fit the width");
}

/// Codes per iteration. They pass through an array of bytes, because the compiler vectorizes each half of
/// the loop alone but not both together.
const STEP: usize = 128;

/// Packs up to [`STEP`] codes.
#[inline(always)]
fn pack_step<const BITS: usize>(codes: &[i8; STEP], out: &mut [u8]) {
    let mask = (1u8 << BITS) - 1;
    for (i, byte) in out.iter_mut().enumerate() {
        let mut packed = 0;
        for j in 0..8 / BITS {
            packed |= (codes[i * (8 / BITS) + j] as u8 & mask) << (j * BITS);
        }
        *byte = packed;
    }
}

/// Element `j` of a byte, sign extended.
#[inline(always)]
fn code_of<const BITS: usize>(byte: u8, j: usize) -> i8 {
    ((byte << (8 - BITS - j * BITS)) as i8) >> (8 - BITS)
}

struct QuantizePacked<'a, const BITS: usize> {
    values: &'a [f32],
    affine: Affine,
    out: &'a mut [u8],
}

impl<const BITS: usize> Operation for QuantizePacked<'_, BITS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (steps, tail) = self.values.as_chunks::<STEP>();
        let (body, rest) = self.out.split_at_mut(steps.len() * STEP * BITS / 8);
        let mut codes = [0i8; STEP];
        for (step, out) in steps.iter().zip(body.chunks_exact_mut(STEP * BITS / 8)) {
            self.affine.codes(isa, step, &mut codes);
            pack_step::<BITS>(&codes, out);
        }
        codes = [0; STEP];
        for (code, value) in codes.iter_mut().zip(tail) {
            *code = self.affine.code(*value);
        }
        pack_step::<BITS>(&codes, rest);
    }
}

struct DequantizePacked<'a, const BITS: usize> {
    codes: &'a [u8],
    affine: Affine,
    out: &'a mut [f32],
}

impl<const BITS: usize> Operation for DequantizePacked<'_, BITS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let mut codes = [0i8; STEP];
        let pieces = self.codes.chunks(STEP * BITS / 8);
        for (bytes, out) in pieces.zip(self.out.chunks_mut(STEP)) {
            unpack_step::<BITS>(bytes, &mut codes);
            for (value, code) in out.iter_mut().zip(&codes) {
                *value = self.affine.value(*code);
            }
        }
    }
}

#[inline(always)]
fn unpack_step<const BITS: usize>(bytes: &[u8], codes: &mut [i8; STEP]) {
    for (byte, codes) in bytes.iter().zip(codes.chunks_exact_mut(8 / BITS)) {
        for (j, code) in codes.iter_mut().enumerate() {
            *code = code_of::<BITS>(*byte, j);
        }
    }
}

struct Pack<'a, const BITS: usize> {
    codes: &'a [i8],
    out: &'a mut [u8],
}

impl<const BITS: usize> Operation for Pack<'_, BITS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let pieces = self.codes.chunks(STEP);
        for (codes, out) in pieces.zip(self.out.chunks_mut(STEP * BITS / 8)) {
            let mut step = [0; STEP];
            step[..codes.len()].copy_from_slice(codes);
            pack_step::<BITS>(&step, out);
        }
    }
}

struct Unpack<'a, const BITS: usize> {
    codes: &'a [u8],
    out: &'a mut [i8],
}

impl<const BITS: usize> Operation for Unpack<'_, BITS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let mut codes = [0i8; STEP];
        let pieces = self.codes.chunks(STEP * BITS / 8);
        for (bytes, out) in pieces.zip(self.out.chunks_mut(STEP)) {
            unpack_step::<BITS>(bytes, &mut codes);
            out.copy_from_slice(&codes[..out.len()]);
        }
    }
}
